"""Samples of each prior beside held-out images."""

import matplotlib.pyplot as plt

from jebm.data.dataset import load_dataset
from jebm.io.filenames import SAMPLES
from jebm.io.tensors import read_tensors
from jebm.pipeline.study import StudyPlan
from jebm.report.figures.style import image_grid

COLUMNS = ROWS = 10


def draw(plan: StudyPlan, variants: list[str]):
    """The first 100 samples of each prior at the first seed, not selected, beside held-out images. All panels use the
    same backbone; only the prior differs."""
    seed, count = plan.seeds[0], COLUMNS * ROWS
    data = load_dataset(plan.variants[variants[0]].dataset.folder)
    figure, axes = plt.subplots(1, len(variants) + 1, figsize=(3.4 * (len(variants) + 1), 3.7), layout="constrained")
    for ax, name in zip(axes, variants, strict=False):
        tensors, _ = read_tensors(plan.variants[name].samples.run_folder(seed) / SAMPLES, {"images"}.__contains__)
        image_grid(ax, tensors["images"][:count], COLUMNS, data.levels, _title(plan, name, seed))
    split = plan.variants[variants[0]].params.evaluate_samples.reference
    image_grid(axes[-1], data.images(split)[:count], COLUMNS, data.levels, f"real: {split} images")
    return figure


def _title(plan: StudyPlan, name: str, seed: int) -> str:
    about = {
        "gaussian": "Gaussian prior",
        "mixture": "mixture prior",
        "ebm": "EBM prior",
        "ncp": "classifier as prior",
        "aggregate-posterior": "posterior draws",
    }
    return f"{about.get(plan.variants[name].params.prior.name, 'prior')}: {name}, seed {seed}"
