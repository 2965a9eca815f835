"""What a record holds, by names that read well in tests: ``kl z1``, ``auroc overlay elbo+f``; and metrics to show."""

import pandas as pd

from jebm.config.types import DIMENSIONS
from jebm.report.frame import tidy


def name_of(row: dict) -> str:
    """The metric of a row with its set, score, layer and step."""
    return " ".join(str(row[key]) for key in ("metric", *DIMENSIONS) if row.get(key, "") != "")


def by_name(rows: list[dict]) -> dict[str, float]:
    """The values of rows that have a name each."""
    values = {name_of(row): row["value"] for row in rows}
    assert len(values) == len(rows)
    return values


def intervals(rows: list[dict]) -> dict[str, tuple[float, float]]:
    """The ends of the intervals of rows that have one, by name."""
    return {name_of(row): (row["low"], row["high"]) for row in rows if "low" in row}


def at_seeds(variant: str, metric: str, values: tuple, n: int = 500, protocol: str = "p@1", **about) -> list[dict]:
    """A row for each value, at the seeds 0, 1, …; without a seed if there is one value only for real data."""
    seeds = [None] if variant == "real-data" else range(len(values))
    common = {"study": "toy", "variant": variant, "metric": metric, "n": n, "protocol": protocol, **about}
    return [{**common, "seed": seed, "value": value} for seed, value in zip(seeds, values, strict=True)]


def frame(*groups: list[dict]) -> pd.DataFrame:
    """The tidy metrics of some rows."""
    return tidy([row for group in groups for row in group])
