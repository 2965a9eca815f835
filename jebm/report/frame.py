"""``metrics.csv``: one row per value, and a column for everything that distinguishes values."""

import io
from collections.abc import Iterable

import pandas as pd

from jebm.config.types import DIMENSIONS
from jebm.errors import JebmError
from jebm.pipeline.study import StudyPlan

COLUMNS = ["study", "variant", "seed", "metric", *DIMENSIONS, "value", "low", "high", "n", "protocol"]
"""Of ``metrics.csv``: dimensions are empty where they do not apply, ``low`` and ``high`` are ends of an interval."""
NUMBERS = {"seed": "Int64", "value": float, "low": float, "high": float, "n": "Int64"}
"""The columns that are not text."""


def tidy(rows: list[dict] | pd.DataFrame) -> pd.DataFrame:
    """Rows with all columns of ``metrics.csv``. Missing text (also a missing step) is empty, a missing number is
    NaN."""
    frame = pd.DataFrame(rows, dtype=object).reindex(columns=COLUMNS).astype(object)
    for column in COLUMNS:
        if column in NUMBERS:
            frame[column] = pd.to_numeric(frame[column].replace("", None)).astype(NUMBERS[column])
        else:
            frame[column] = frame[column].fillna("").astype(str)
    return frame


def read_metrics(text: str, source: str) -> pd.DataFrame:
    """Parse the text of a ``metrics.csv``.

    Raises:
        JebmError: columns are missing, as in files of an older format.
    """
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if missing := [column for column in COLUMNS if column not in frame.columns]:
        raise JebmError(
            f"{source}: was written by another version of jebm, in a format that this one does not read: it lacks the "
            f"columns {', '.join(missing)}"
        )
    return tidy(frame)


def load_metrics(plan: StudyPlan) -> pd.DataFrame:
    """The study's collected metrics."""
    path = plan.results / "metrics.csv"
    return read_metrics(path.read_text(encoding="utf-8"), str(path))


def chain_steps(plan: StudyPlan, variants: Iterable[str]) -> dict[str, int]:
    """The number of steps of those variants whose samples are the ends of chains from noise. Chains from the prior's
    proposal start near the density, so their number of steps can't be compared with these."""
    samplers = {name: plan.variants[name].params.draw_samples.sampler for name in variants}
    return {n: s.steps for n, s in samplers.items() if s.name == "mcmc" and s.start != "proposal"}


def values(frame: pd.DataFrame, metric: str, **dimensions: str) -> pd.DataFrame:
    """The rows of a metric with the given set, score, layer and step; each is empty when left out."""
    own = frame.metric == metric
    for name in DIMENSIONS:
        own &= frame[name] == dimensions.get(name, "")
    return frame[own]
