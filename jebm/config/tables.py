"""The blocks of a study that say what its tables hold: pivots of ``metrics.csv``, with values of the literature."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from jebm.config.components import Section
from jebm.config.messages import suggestion
from jebm.config.types import DIMENSIONS, Count, Number
from jebm.metrics.catalogue import METRICS, is_clock_time, outlier_scores

FIELDS = ("variant", "seed", "metric", *DIMENSIONS)
"""What rows and columns of a table may stand for, besides parameters of the variants."""
ANOMALY_SCORES = ("log-prior", "kl+f", "kl+base")
"""Outlier scores that only the evaluation ``anomaly`` has."""
Names = Annotated[list[str], Field(min_length=1)]


class Headline(Section):
    """A number in ``metrics.json``: the mean over seeds, and over variants if several are named."""

    variants: Names
    """The variants over which the value is averaged."""
    metric: Literal[tuple(METRICS)]
    """The metric; it is printed in its unit and with its number of digits."""
    set: str = ""
    """Which set of images, for a metric that is measured on several."""
    score: str = ""
    """Which outlier score, for a metric that is measured for several."""


class Differences(Section):
    """Differences between variants on the same images, for the last model of each training. They are computed from what
    is stored for each image, when metrics are collected."""

    evaluation: str
    """``evaluate_density`` compares the importance-weighted bounds on log p(x); the label of an evaluation compares the
    outlier detection by the scores that it has stored. Both variants must have it."""
    scores: list[str] = []
    """The outlier scores; each is compared with itself. Bounds need none."""
    less: Annotated[dict[str, str], Field(min_length=1)]
    """Variant → the variant whose value is subtracted from its value at the same seed. Both must have the same data."""
    resamples: Count = 200
    """Number of bootstrap resamples of the images behind the intervals of outlier detection; both variants are measured
    on the same ones."""

    @property
    def of_bounds(self) -> bool:
        """Whether bounds on log p(x) are compared, not outlier detection."""
        return self.evaluation == "evaluate_density"

    def check(self, variants: Mapping[str, Any]) -> None:
        """Check that the variants exist and can be compared.

        Raises:
            ValueError: they do not, or can't.
        """
        if self.of_bounds == bool(self.scores):
            wanted = "bounds have none" if self.of_bounds else f"name some that '{self.evaluation}' stores"
            raise ValueError(f"@differences.scores: {wanted}")
        for pair in self.less.items():
            for name in pair:
                if name not in variants:
                    raise ValueError(f"@differences.less: '{name}' is no variant;{suggestion(name, variants)}")
                if self.of_bounds and not variants[name].prior.traits.evaluable:
                    raise ValueError(f"@differences.less: the prior of '{name}' has no density, so it has no bound")
                if not self.of_bounds and self.evaluation not in variants[name].evaluations:
                    raise ValueError(f"@differences.less: '{name}' has no evaluation '{self.evaluation}'")
            own, other = (self._measured(variants[name]) for name in pair)
            if own != other:
                raise ValueError(f"@differences.less: {' and '.join(pair)} have other data or another evaluation")

    def _measured(self, variant: Any) -> tuple:
        """What must be equal of two variants that are compared."""
        if self.of_bounds:
            return variant.dataset, variant.evaluate_density.reference, variant.evaluate_density.importance_samples
        return variant.dataset, variant.evaluations[self.evaluation]


class Literature(Section):
    """A row of published values, which is printed beside our results and marked as published."""

    method: Annotated[str, Field(min_length=1)]
    """Name of the method; the label of the row."""
    source: Annotated[str, Field(min_length=1)]
    """Publication in which the values are found."""
    values: Annotated[dict[str, Number], Field(min_length=1)]
    """Column → value, in the unit of the column."""
    variant: str | None = None
    """The variant below whose row the values are printed; at the end of the table when left out."""


class Table(Section):
    """A table of ``metrics.csv``. Each cell holds the values that match its row and its column, one per seed.

    The columns of ``metrics.csv`` tell values apart. A set, score, layer or step that neither ``rows`` nor ``columns``
    nor ``where`` names must be empty: a table of ``auroc``, for instance, shows no values of snapshots unless it asks
    for them.
    """

    variants: Names
    """The variants that are shown; all variants of the study when left out."""
    metrics: Names
    """The metrics that are shown."""
    rows: Names = ["variant"]
    """The columns of ``metrics.csv``, or dotted paths of parameters, whose values define the rows."""
    columns: Names = ["metric"]
    """The columns of ``metrics.csv``, or dotted paths of parameters (such as ``dataset.held_out_class``), whose values
    define the columns."""
    where: dict[Literal[DIMENSIONS], Names] = {}
    """Column of ``metrics.csv`` → the sets, scores, layers or steps that are shown, in this order; all when left
    out."""
    scores: dict[str, Names] = {}
    """Variant → the outlier scores that are shown for it, if variants have different ones."""
    compare: Literal["columns", "rows", "nothing"] = "columns"
    """Which values of a metric are compared with each other: those in a column, those in a row, or none. Compared
    values must have been measured under the same protocol, otherwise the table is refused."""
    best: bool = True
    """Print the best of the compared values in bold."""
    intervals: bool = False
    """Print 95 % confidence intervals over images."""
    label: str = ""
    """Header of the column of row labels."""
    caption: str = ""
    """Caption above the table."""
    literature: list[Literature] = []
    """Published values, printed beside our results."""
    notes: list[str] = []
    """Further notes below the table, for instance on how published values were measured."""

    @model_validator(mode="after")
    def _fits(self):
        for metric in self.metrics:
            if metric not in METRICS:
                raise ValueError(f"@metrics: '{metric}' is no metric;{suggestion(metric, METRICS)}")
            if is_clock_time(metric):
                raise ValueError(
                    f"@metrics: '{metric}' is a time by the clock, which differs between runs; `jebm timings` shows it"
                )
        fields = [*self.rows, *self.columns]
        twice = next((field for field in fields if fields.count(field) > 1), None)
        if twice:
            raise ValueError(f"@columns: '{twice}' stands twice in rows and columns")
        if len(self.metrics) > 1 and "metric" not in fields:
            raise ValueError("@metrics: several of them need 'metric' among rows or columns")
        if len(self.variants) > 1 and not any(field == "variant" or field not in FIELDS for field in fields):
            raise ValueError("@variants: several of them need 'variant' among rows or columns")
        for variant in self.scores:
            if variant not in self.variants:
                raise ValueError(f"@scores: '{variant}' is no row of this table;{suggestion(variant, self.variants)}")
        if self.scores and "score" not in fields:
            raise ValueError("@scores: need 'score' among rows and columns")
        if self.literature and len(self.columns) > 1:
            raise ValueError("@literature: needs columns of one field")
        rows = self.variants if self.rows == ["variant"] else []
        for place, entry in enumerate(self.literature):
            if entry.variant is not None and entry.variant not in rows:
                raise ValueError(
                    f"@literature.{place}.variant: '{entry.variant}' is no row;{suggestion(entry.variant, rows)}"
                )
        return self

    def check(self, variants: Mapping[str, Any], layers: int) -> None:
        """Check that everything the table names exists in a study with these variants, of at most ``layers`` layers.

        Raises:
            ValueError: a name does not exist.
        """
        for name in self.variants:
            if name not in variants:
                raise ValueError(f"@variants: '{name}' is no variant;{suggestion(name, variants)}")
        for axis in ("rows", "columns"):
            for field in getattr(self, axis):
                if field not in FIELDS and not any(parameter(variants[name], field) for name in self.variants):
                    raise ValueError(f"@{axis}: '{field}' is no column and no parameter;{suggestion(field, FIELDS)}")
        known = [*outlier_scores(layers), *ANOMALY_SCORES]
        for key, names in [("where.score", self.where.get("score", [])), *self.scores.items()]:
            for name in names:
                if name not in known:
                    where = key if key == "where.score" else f"scores.{key}"
                    raise ValueError(f"@{where}: '{name}' is no score of {layers} layers;{suggestion(name, known)}")
        columns = self.metrics if self.columns == ["metric"] else self.where.get(self.columns[0])
        if self.columns[0] not in FIELDS:
            columns = [parameter(variants[name], self.columns[0]) for name in self.variants]
        for place, entry in enumerate(self.literature if columns else ()):
            for column in entry.values:
                if column not in columns:
                    raise ValueError(
                        f"@literature.{place}.values.{column}: is no column;"
                        f"{suggestion(column, dict.fromkeys(columns))}"
                    )


def parameter(block: Any, path: str) -> str:
    """A parameter of a variant by its dotted path; empty if there is none, or if it belongs to a training of the prior
    that the variant does not have."""
    if path.startswith("train_prior.") and (block.train_joint or not block.prior.traits.by_gradient):
        return ""
    for key in path.split("."):
        block = getattr(block, key, None)
    return "" if block is None else str(block)
