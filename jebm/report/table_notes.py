"""The notes below a table: seeds, meanings, sample counts, protocols, noise, and the floor."""

import pandas as pd

from jebm.config.tables import Table
from jebm.metrics.catalogue import BOUNDS, FLOOR, METRICS
from jebm.pipeline.study import StudyPlan
from jebm.report.table_format import fixed

POSTERIOR_DRAWS = (
    "decoded draws of the inference network at training images, the best that a prior can reach on its backbone; not "
    "compared with the priors."
)


def notes(spec: Table, chosen: pd.DataFrame, plan: StudyPlan) -> list[str]:
    """Notes: the seeds; and for each metric its meaning, sample count and protocol, or the protocol of each variant."""
    seeds, found = ", ".join(map(str, plan.seeds)), []
    if "seed" not in [*spec.rows, *spec.columns]:
        several = f"Mean ± standard deviation over seeds {seeds} (n = {len(plan.seeds)})."
        found.append(several if len(plan.seeds) > 1 else f"Seed {seeds} only (n = 1).")
    for metric, group in chosen.groupby("metric", sort=False):
        of = group.groupby("protocol", sort=False).variant.unique()
        several = "; ".join(f"{protocol} ({', '.join(variants)})" for protocol, variants in of.items())
        protocol = several if len(of) > 1 else of.index[0]
        counts = " or ".join(map(str, sorted(group.n.unique())))
        found.append(f"{METRICS[metric].label}: {METRICS[metric].about}; sample count {counts}, protocol {protocol}.")
        found += _note_on_sets(spec, metric, group, plan)
        found += _note_on_bounds(spec, metric, chosen, plan)
    if draws := [name for name in spec.variants if not plan.variants[name].params.prior.traits.candidate]:
        found.append(f"{', '.join(draws)}: {POSTERIOR_DRAWS}")
    if spec.intervals:
        found.append("In brackets the 95 % interval over images; its ends are means over seeds.")
    return found


def _note_on_sets(spec: Table, metric: str, group: pd.DataFrame, plan: StudyPlan) -> list[str]:
    """A note on distances that were measured on several sample sets, if there are any, and on the rows with one set."""
    single = [name for name in spec.variants if name in set(group[group.noise.isna()].variant)]
    group = group[group.noise.notna()]
    if group.empty:
        return []
    known, sets = METRICS[metric], sorted({plan.variants[name].params.draw_samples.sets for name in group.variant})
    mean = f"{known.label}: the value of a seed is the mean over {' or '.join(map(str, sets))} sample sets of this size"
    mean += f" (of one set: {', '.join(single)})" if single else ""
    if "seed" in [*spec.rows, *spec.columns]:
        return [f"{mean}, ± the standard deviation over these sets."]
    low, high = (fixed(value * known.scale, known.digits) for value in (group.noise.min(), group.noise.max()))
    return [f"{mean}; their standard deviation within a seed is {low} to {high}."]


def _note_on_bounds(spec: Table, metric: str, chosen: pd.DataFrame, plan: StudyPlan) -> list[str]:
    """A note on the seeds at which a prior has no bound because its log Z is not known, if there are any."""
    if metric not in BOUNDS:
        return []
    missing = {}
    for name in spec.variants:
        if plan.variants[name].params.prior.traits.evaluable:
            own = set(chosen[(chosen.metric == metric) & (chosen.variant == name)].seed)
            missing[name] = [str(seed) for seed in plan.seeds if str(seed) not in own]
    told = [f"{name} (seed {', '.join(seeds)})" for name, seeds in missing.items() if seeds]
    return [f"{METRICS[metric].label}: none where the estimates of log Z disagree: {'; '.join(told)}."] if told else []


def floor_notes(plan: StudyPlan, frame: pd.DataFrame, metrics: list[str]) -> list[str]:
    """The metrics between real images and real images."""
    reference = next(iter(plan.variants.values())).params.evaluate_samples.reference
    images, against = ("test", "training") if reference == "train" else ("training", "held-out")
    floor = frame[(frame.variant == FLOOR) & frame.metric.isin(metrics)]
    return [
        f"{METRICS[row.metric].label} of the {row.n} {images} images themselves against the same {against} images "
        f"(floor): {fixed(row.value * METRICS[row.metric].scale, METRICS[row.metric].digits)}."
        for row in floor.itertuples()
    ]
