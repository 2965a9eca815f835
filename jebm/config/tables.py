"""The blocks of ``params.yaml`` that say what a table holds, published values included."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from jebm.config.catalogue import TABLES
from jebm.config.components import Section
from jebm.config.messages import near
from jebm.config.types import Number
from jebm.metrics.catalogue import DETECTION, LAYER_SCORE, METRICS, SCORES

KEYED = ("keyed", "matrix", "rows", "grid")
"""Kinds of table that spread out a metric that comes under several keys, ``metric:key`` (``grid``: ``row/column``)."""
SCORED = ("detection", "scores", "crossed")
"""Kinds of table whose columns are outlier scores under one measure, ``measure:score``."""


PUBLISHABLE = ("metrics", "rows", "crossed")
"""Kinds of table that print published values beside ours."""


class Published(Section):
    """A row of values that others published; printed beside ours and marked as theirs."""

    method: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    """Where the values stand; without it they are not printed."""
    values: Annotated[dict[str, Number], Field(min_length=1)]
    """Column → value, in the unit in which the column is printed: a metric, or the second part of the variants' names
    (kind ``crossed``)."""
    variant: str | None = None
    """The row of ours that it stands under; at the end of the table when left out."""


class Table(Section):
    kind: Literal[tuple(TABLES)]
    variants: Annotated[list[str], Field(min_length=1)]
    columns: Annotated[list[str], Field(min_length=1)]
    """Metrics, or ``measure:score`` with one measure for all (kinds ``detection``, ``scores``)."""
    caption: str = ""
    published: list[Published] = []
    notes: list[str] = []
    """What else a reader must know, for instance how a published value was measured."""

    @model_validator(mode="after")
    def _columns_exist(self):
        measures = dict.fromkeys(column.split(":")[0] for column in self.columns)
        plain = [name for name in METRICS if name not in DETECTION]
        for column in self.columns:
            measure, _, score = column.partition(":")
            if self.kind in KEYED and measure not in METRICS:
                raise ValueError(f"@columns: '{column}' is no metric;{near(column, METRICS)}")
            if self.kind in KEYED:
                continue
            if self.kind not in SCORED and column not in plain:
                raise ValueError(f"@columns: '{column}' is no metric;{near(column, plain)}")
            if self.kind in SCORED and (measure not in DETECTION or not score or len(measures) > 1):
                raise ValueError(
                    f"@columns: '{column}' must be measure:score, with the same measure in every column; "
                    f"measures: {', '.join(DETECTION)}"
                )
            if self.kind in SCORED and score not in SCORES and not LAYER_SCORE.fullmatch(score):
                raise ValueError(f"@columns: '{score}' is no score;{near(score, (*SCORES, 'kl_1', 'f_1', 'llr>1'))} …")
        return self

    @model_validator(mode="after")
    def _rows_fit(self):
        crossed = self.kind == "crossed"
        for name in self.variants if crossed else ():
            if not all(name.rpartition("-")):
                raise ValueError(f"@variants: '{name}' must be <row>-<column>, as the kind 'crossed' reads names")
        if self.published and self.kind not in PUBLISHABLE:
            raise ValueError(f"@published: a table of the kind '{self.kind}' has none; kinds: {', '.join(PUBLISHABLE)}")
        columns = [name.rpartition("-")[2] for name in self.variants] if crossed else self.columns
        rows = [] if crossed else self.variants
        for place, entry in enumerate(self.published):
            for column in entry.values:
                if column not in columns:
                    raise ValueError(f"@published.{place}.values.{column}: is no column;{near(column, columns)}")
            if entry.variant is not None and entry.variant not in rows:
                raise ValueError(f"@published.{place}.variant: '{entry.variant}' is no row;{near(entry.variant, rows)}")
        return self
