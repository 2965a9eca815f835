"""Small tables for ``dvc plots``: FD against steps, and training curves, as means over seeds."""

import pandas as pd

from jebm.io.filenames import HISTORY
from jebm.io.files import write_csv
from jebm.metrics.catalogue import frechet_metric
from jebm.pipeline.study import StudyPlan
from jebm.report.frame import load_metrics, values


def collect_plots(plan: StudyPlan) -> None:
    """Write ``plots/langevin-steps.csv`` and ``plots/training.csv``."""
    folder = plan.results / "plots"
    frame = load_metrics(plan)
    metric, rows = frechet_metric(frame.metric), []
    frame = values(frame, metric)
    for name, variant in plan.variants.items():
        sampler = variant.params.draw_samples.sampler
        if sampler.name == "chain":
            mean = frame[frame.variant == name].value.mean()
            rows.append({"variant": name, "langevin_steps": sampler.steps, metric: f"{mean:.6g}"})
    write_csv(folder / "langevin-steps.csv", ["variant", "langevin_steps", metric], rows)
    write_csv(folder / "training.csv", ["variant", "step", "energy_gap", "acceptance"], _training(plan))


def _training(plan: StudyPlan) -> list[dict]:
    rows, seen = [], set()
    for name, variant in plan.variants.items():
        if not variant.learned or variant.prior.id in seen:
            continue
        seen.add(variant.prior.id)
        runs = pd.concat(pd.read_csv(variant.prior.run_folder(seed) / HISTORY) for seed in plan.seeds)
        if "energy_gap" not in runs:
            continue  # the prior is not trained with a chain
        means = runs.groupby("step")[["energy_gap", "acceptance"]].mean()
        rows += [
            {"variant": name, "step": step, **{key: f"{value:.6g}" for key, value in row.items()}}
            for step, row in means.iterrows()
        ]
    return rows
