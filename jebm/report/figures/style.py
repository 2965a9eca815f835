"""The common style of all figures: colours by meaning, elements over seeds, and files that do not contain dates."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jebm.io.files import atomic_write
from jebm.metrics.catalogue import FLOOR
from jebm.report.frame import values

GAP = 0.3
"""Grey level between the images of a grid, which is visible beside black and beside white."""
COLOURS = {"data": "#555555", "gaussian": "#d1495b", "ebm": "#00798c", "density": "#edae49", "mixture": "#8d6a9f"}
CYCLE = ["#00798c", "#d1495b", "#edae49", "#30638e", "#8d6a9f", "#5b8e3e"]

plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": matplotlib.cycler(color=CYCLE),
        "legend.frameon": False,
        "figure.dpi": 110,
        "savefig.dpi": 160,
        "svg.hashsalt": "jebm",
    }
)


def save(figure: Figure, path: Path) -> None:
    """Write ``path``.png and ``path``.pdf without dates, so that equal numbers give equal files."""
    for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        with atomic_write(path.with_suffix(f".{kind}"), "wb") as file:
            figure.savefig(file, format=kind, metadata=metadata, bbox_inches="tight")
    plt.close(figure)


def over_seeds(frame: pd.DataFrame, x: str) -> pd.DataFrame:
    """Mean and standard deviation over seeds of ``value`` by the column ``x``; the standard deviation is 0 for a single
    seed."""
    values = frame.groupby(x).value
    return pd.DataFrame({"mean": values.mean(), "sd": values.std(ddof=1).fillna(0)})


def seed_bars(ax: Axes, frame: pd.DataFrame, x: str, colour: str, label: str, capsize: float = 3) -> None:
    """Plot the mean ± standard deviation over seeds against ``x``, as points with error bars, joined by a line."""
    stats = over_seeds(frame, x)
    ax.errorbar(stats.index, stats["mean"], stats.sd, color=colour, marker="o", capsize=capsize, label=label)


def seed_lines(ax: Axes, frame: pd.DataFrame, x: str, colour: str) -> None:
    """Plot a thin line per seed against ``x``."""
    for _, own in frame.groupby("seed"):
        ax.plot(own.sort_values(x)[x], own.sort_values(x).value, color=colour, alpha=0.3, linewidth=0.8)


def seed_band(ax: Axes, values: pd.Series, colour: str, label: str, alpha: float = 0.15, **line: float) -> None:
    """Plot a horizontal line at the mean over seeds, in a band of one standard deviation."""
    mean, sd = values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0
    ax.axhline(mean, color=colour, label=label, **line)
    ax.axhspan(mean - sd, mean + sd, color=colour, alpha=alpha, linewidth=0)


def floor_line(ax: Axes, frame: pd.DataFrame, metric: str, **line: float) -> None:
    """Plot the distance between real images and real images, if it was measured."""
    floor = values(frame[frame.variant == FLOOR], metric).value
    if len(floor):
        ax.axhline(floor.iloc[0], color=COLOURS["data"], linestyle=":", label="real images (floor)", **line)


def image_grid(axes: Axes, images: torch.Tensor, columns: int, levels: int, title: str = "") -> None:
    """Show integer images (count, channels, height, width) as a grid with thin gaps, all on one grey or colour
    scale."""
    count, channels, height, width = images.shape
    if not count:
        axes.text(0.5, 0.5, "all chains diverged", ha="center", va="center", transform=axes.transAxes)
    rows = max(-(-count // columns), 1)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), np.nan)
    for i, image in enumerate(images.numpy().transpose(0, 2, 3, 1)):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = image / (levels - 1)
    axes.imshow(np.nan_to_num(canvas[..., 0] if channels == 1 else canvas, nan=GAP), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[], title=title)
    for spine in axes.spines.values():
        spine.set_visible(False)
