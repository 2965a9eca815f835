"""The results of a study as a table, for scripts and notebooks."""

from pathlib import Path

import pandas as pd

from jebm.errors import JebmError
from jebm.pipeline.stages import RESULTS
from jebm.report.frame import read_metrics


def load_metrics(study: str | Path) -> pd.DataFrame:
    """All values of a study, one per row: ``results/STUDY/metrics.csv``.

    Args:
        study: the name of a study, if the working folder is the project's; or a folder with a ``metrics.csv``.

    Returns:
        A table with the columns study, variant, seed, metric, set, score, layer, step, value, low, high, n, protocol.
        Values are in the units of ``jebm.metrics.catalogue``, without the factors that tables print. ``docs/tables.md``
        describes the columns. The variant ``real-data`` is the distance between real images, without a seed.

    Raises:
        JebmError: there are no results of this study.
    """
    path = (Path(study) if Path(study).is_dir() else RESULTS / study) / "metrics.csv"
    if not path.exists():
        raise JebmError(f"{path}: no such file; `snakemake --cores all {study}` makes it")
    return read_metrics(path.read_text(encoding="utf-8"), str(path))
