"""What DVC's tools show of a study: its headline numbers, and plots of FD against steps and of training."""

import pandas as pd
import yaml

from jebm.io.filenames import HISTORY
from jebm.io.files import atomic_write, write_csv
from jebm.metrics.catalogue import METRICS, frechet_metric
from jebm.pipeline.study import StudyPlan
from jebm.report.frame import chain_steps, load_metrics, values

CURVES = ["energy_gap", "acceptance", "effective_samples", "validation_gain"]
"""Columns of a prior's history that are plotted, where it has them."""
TEMPLATE = "workflow/report/by-variant.json"
"""For DVC: one line per variant, dashed by revision."""


def collect_plots(plan: StudyPlan) -> None:
    """Write ``plots/langevin-steps.csv`` and ``plots/training.csv``, means over seeds, and ``dvc.yaml``."""
    folder = plan.results / "plots"
    frame = load_metrics(plan)
    metric, rows = frechet_metric(frame.metric), []
    frame = values(frame, metric)
    for name, steps in chain_steps(plan, plan.variants).items():
        mean = frame[frame.variant == name].value.mean()
        rows.append({"variant": name, "langevin_steps": steps, metric: f"{mean:.6g}"})
    write_csv(folder / "langevin-steps.csv", ["variant", "langevin_steps", metric], rows)
    curves = _training(plan)
    write_csv(folder / "training.csv", ["variant", "step", *CURVES], curves)
    with atomic_write(plan.results / "dvc.yaml") as file:
        file.write(dvc_file(plan, metric if rows else None, bool(curves)))


def dvc_file(plan: StudyPlan, distance: str | None, trained: bool) -> str:
    """The text of ``results/<study>/dvc.yaml``, by which DVC finds the headline numbers and plots of the study.

    Args:
        distance: the metric in ``plots/langevin-steps.csv``; None if no variant is sampled by a chain.
        trained: whether ``plots/training.csv`` has curves.
    """
    plots = []
    if distance:
        title = f"{plan.name}: {METRICS[distance].label} against Langevin steps"
        plots.append(_plot("langevin-steps", x="langevin_steps", y=distance, title=title, template="scatter"))
    if trained:
        title = f"{plan.name}: energy gap in training"
        plots.append(_plot("training", x="step", y="energy_gap", title=title, template=TEMPLATE))
    content = {"metrics": ["metrics.json"] if plan.study.headline else [], "plots": plots}
    content = {key: value for key, value in content.items() if value}
    return "# What DVC shows of this study; written with the plots.\n" + yaml.safe_dump(content, sort_keys=False)


def _plot(name: str, **options: str) -> dict[str, dict[str, str]]:
    return {f"plots/{name}.csv": options}


def _training(plan: StudyPlan) -> list[dict]:
    rows, seen = [], set()
    for name, variant in plan.variants.items():
        if not variant.learned or variant.prior.id in seen:
            continue
        seen.add(variant.prior.id)
        runs = pd.concat(pd.read_csv(variant.prior.run_folder(seed) / HISTORY) for seed in plan.seeds)
        if "energy_gap" not in runs:
            continue  # the prior is not trained with an estimator
        means = runs.groupby("step")[[key for key in CURVES if key in runs]].mean()
        rows += [
            {"variant": name, "step": step, **{key: f"{value:.6g}" for key, value in row.dropna().items()}}
            for step, row in means.iterrows()
        ]
    return rows
