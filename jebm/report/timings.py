"""What the clock measured in the runs of a study: training times, and times and rates of evaluations.

They differ between runs and machines, so they are read from the runs when somebody asks, and no result contains them.
"""

from pathlib import Path

import pandas as pd

from jebm.errors import JebmError
from jebm.io.files import atomic_write, read_json
from jebm.metrics.catalogue import METRICS
from jebm.metrics.records import MetricRecord, load_record
from jebm.pipeline.study import StudyPlan

FIELDS = ["variant", "metric", "set", "step"]


def measured(plan: StudyPlan) -> pd.DataFrame:
    """One row per time that was measured in a finished run: variant, metric, set, step, seed and value."""
    rows = []
    for variant, seed, kind, path in plan.record_files():
        seconds = read_json(path).get("seconds") if Path(path).exists() else None
        if seconds is not None:  # imported weights were trained elsewhere
            rows.append([variant, f"seconds_{kind}", "", "", seed, seconds])
    for variant, path in plan.metric_files():
        record = load_record(path) if Path(path).exists() else MetricRecord(0)
        for time in record.timings:
            about = [str(time.get(field, "")) for field in ("set", "step")]
            rows.append([variant, time["metric"], *about, record.seed, time["value"]])
    return pd.DataFrame(rows, columns=[*FIELDS, "seed", "value"])


def timing_table(plan: StudyPlan, frame: pd.DataFrame) -> str:
    """Mean ± standard deviation over seeds of each time, as Markdown.

    Raises:
        JebmError: nothing was measured.
    """
    if frame.empty:
        raise JebmError(f"{plan.name}: no finished run is here; `snakemake --cores all {plan.name}` makes them")
    rows = []
    for (variant, metric, of, step), own in frame.groupby(FIELDS, sort=False):
        digits = 1 if own.value.mean() < 10 else 0
        spread = f" ± {own.value.std():.{digits}f}" if len(own) > 1 else ""
        rows.append([variant, METRICS[metric].label, of, step, f"{own.value.mean():.{digits}f}{spread}", len(own)])
    columns = ["variant", "what", "of", "step", "mean ± sd", "seeds"]
    table = pd.DataFrame(rows, columns=columns).to_markdown(index=False, disable_numparse=True)
    about = {METRICS[name].label: METRICS[name].about for name in dict.fromkeys(frame.metric)}
    notes = "\n".join(f"- {label}: {text}." for label, text in about.items())
    return f"Times by the clock of the runs of `{plan.name}` on one machine.\n\n{table}\n\n{notes}\n"


def record(plan: StudyPlan) -> Path:
    """Write the table beside the study's results; returns its path."""
    path = plan.results / "timings.md"
    text = timing_table(plan, measured(plan))
    with atomic_write(path) as file:
        file.write(text)
    return path
