"""The blocks of a study that say what its tables hold: pivots of ``metrics.csv``, with values of the literature."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from jebm.config.components import Section
from jebm.config.messages import near
from jebm.config.types import DIMENSIONS, Number
from jebm.metrics.catalogue import METRICS, outlier_scores

FIELDS = ("variant", "seed", "metric", *DIMENSIONS)
"""What the rows and the columns of a table may stand for, besides parameters of the variants."""
Names = Annotated[list[str], Field(min_length=1)]


class Headline(Section):
    """A number of ``metrics.json``: the mean over seeds, and over variants if there are several."""

    variants: Names
    """Of one variant, or the mean of several."""
    metric: Literal[tuple(METRICS)]
    """Which metric; printed in its unit and with its digits."""
    set: str = ""
    """Of which set, for a metric that has several."""
    score: str = ""
    """Of which outlier score, for a metric that has several."""


class Literature(Section):
    """A row of values that others published; printed beside ours and marked as theirs."""

    method: Annotated[str, Field(min_length=1)]
    """What is printed as the name of the row."""
    source: Annotated[str, Field(min_length=1)]
    """Where the values stand; without it they are not printed."""
    values: Annotated[dict[str, Number], Field(min_length=1)]
    """Column → value, in the unit in which the column is printed."""
    variant: str | None = None
    """The row of ours that it stands under; at the end of the table when left out."""


class Table(Section):
    """A cell holds the values that agree in all fields of its row and its column, one for each seed.

    Values are distinguished by the columns of ``metrics.csv``. A set, a score, a layer or a step that is named neither
    by ``rows`` nor by ``columns`` nor by ``where`` is empty: a table of ``auroc`` shows no snapshots unless it says so.
    """

    variants: Names
    """The variants that it shows; all of the study when left out."""
    metrics: Names
    """The metrics that it shows."""
    rows: Names = ["variant"]
    """What tells the rows apart: columns of ``metrics.csv``, or parameters of the variants by their paths."""
    columns: Names = ["metric"]
    """What tells the columns apart, in the same way; for instance ``dataset.held_out_class``."""
    where: dict[Literal[DIMENSIONS], Names] = {}
    """Which sets, scores, layers or steps, in this order; all when left out."""
    scores: dict[str, Names] = {}
    """Which outlier scores of each variant, where the variants have different ones."""
    compare: Literal["columns", "rows", "nothing"] = "columns"
    """What is under one protocol, or else refused: the values of a metric in a column, or those in a row."""
    best: bool = True
    """Whether the best of what is compared is bold."""
    intervals: bool = False
    """Whether the 95 % intervals over images are printed."""
    ratios: bool = False
    """Whether columns of other variants are followed by the ratio of the first variant's value to theirs."""
    label: str = ""
    """The header of the rows."""
    caption: str = ""
    """The sentence above the table."""
    literature: list[Literature] = []
    """Values that others published, printed beside ours."""
    notes: list[str] = []
    """What else a reader must know, for instance how a value of the literature was measured."""

    @model_validator(mode="after")
    def _fits(self):
        for metric in self.metrics:
            if metric not in METRICS:
                raise ValueError(f"@metrics: '{metric}' is no metric;{near(metric, METRICS)}")
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
                raise ValueError(f"@scores: '{variant}' is no row of this table;{near(variant, self.variants)}")
        if self.scores and not {"variant", "score"} <= set(fields):
            raise ValueError("@scores: need 'variant' and 'score' among rows and columns")
        if self.ratios and (self.rows != ["seed"] or self.columns != ["metric", "variant"]):
            raise ValueError("@ratios: need rows: [seed] and columns: [metric, variant]")
        if self.literature and len(self.columns) > 1:
            raise ValueError("@literature: needs columns of one field")
        rows = self.variants if self.rows == ["variant"] else []
        for place, entry in enumerate(self.literature):
            if entry.variant is not None and entry.variant not in rows:
                raise ValueError(
                    f"@literature.{place}.variant: '{entry.variant}' is no row;{near(entry.variant, rows)}"
                )
        return self

    def check(self, variants: Mapping[str, Any], layers: int) -> None:
        """What the table names is there, in a study with these variants of at most so many layers.

        Raises:
            ValueError: it is not.
        """
        for name in self.variants:
            if name not in variants:
                raise ValueError(f"@variants: '{name}' is no variant;{near(name, variants)}")
        for axis in ("rows", "columns"):
            for field in getattr(self, axis):
                if field not in FIELDS and not any(parameter(variants[name], field) for name in self.variants):
                    raise ValueError(f"@{axis}: '{field}' is no column and no parameter;{near(field, FIELDS)}")
        known = outlier_scores(layers)
        for key, names in [("where.score", self.where.get("score", [])), *self.scores.items()]:
            for name in names:
                if name not in known:
                    where = key if key == "where.score" else f"scores.{key}"
                    raise ValueError(f"@{where}: '{name}' is no score of {layers} layers;{near(name, known)}")
        columns = self.metrics if self.columns == ["metric"] else self.where.get(self.columns[0])
        if self.columns[0] not in FIELDS:
            columns = [parameter(variants[name], self.columns[0]) for name in self.variants]
        for place, entry in enumerate(self.literature if columns else ()):
            for column in entry.values:
                if column not in columns:
                    raise ValueError(
                        f"@literature.{place}.values.{column}: is no column;{near(column, dict.fromkeys(columns))}"
                    )


def parameter(block: Any, path: str) -> str:
    """A parameter of a variant by its dotted path, empty if there is none."""
    for key in path.split("."):
        block = getattr(block, key, None)
    return "" if block is None else str(block)
