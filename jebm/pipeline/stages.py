"""The kinds of stage, each described once.

Study plans, jobs, rules, command line and documentation read :data:`KINDS`. The name of a kind is the name of its rule
in ``workflow/`` and of its module in ``jebm.steps``. A new kind requires one entry here, one rule, one module, and the
stage in the plan of a variant (:mod:`jebm.pipeline.study`).
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from jebm.io.digests import digest
from jebm.io.filenames import (
    ARRAYS,
    HISTORY,
    IMAGES,
    MANIFEST,
    METRICS,
    PRIOR_WEIGHTS,
    PROVENANCE,
    RECORD,
    SAMPLES,
    STATISTICS,
    WEIGHTS,
)

DATA, RUNS, RESULTS = Path("data"), Path("runs"), Path("results")
STATE, STAMPS = Path(".jebm/state"), Path(".jebm/cache/stamps")


@dataclass(frozen=True)
class StageKind:
    """The inputs, outputs and parameters of the jobs of one kind of stage."""

    outputs: tuple[str, ...]
    """Files in the stage's folder, besides its provenance record."""
    reads: tuple[str, ...] = ()
    """Stages of the variant whose files the jobs read, by their roles in :class:`jebm.pipeline.study.Variant`."""
    blocks: tuple[str, ...] = ()
    """Blocks of parameters that the jobs read; see :meth:`jebm.pipeline.study.Variant.block`."""
    per_seed: bool = True
    """Whether each seed has its own job. Otherwise one result serves all seeds."""
    devices: str = "one"
    """``several``: ``compute.devices`` processes share the work, and the result depends on their number. ``any``: they
    share the work, but the result does not depend on their number. ``one``: a single process."""


KINDS: dict[str, StageKind] = {
    "prepare_dataset": StageKind((IMAGES, MANIFEST), blocks=("dataset",), per_seed=False),
    "train_features": StageKind(
        (WEIGHTS, HISTORY, RECORD), reads=("dataset",), blocks=("features", "compute"), per_seed=False
    ),
    "reference_statistics": StageKind(
        (STATISTICS,),
        reads=("dataset", "features"),
        blocks=("features", "statistics", "compute"),
        per_seed=False,
        devices="any",
    ),
    "import_backbone": StageKind(
        (WEIGHTS, RECORD),
        reads=("dataset",),
        blocks=("backbone", "import_backbone", "compute"),
        per_seed=False,
    ),
    "train_backbone": StageKind(
        (WEIGHTS, HISTORY, RECORD),
        reads=("dataset",),
        blocks=("backbone", "train_backbone", "compute"),
        devices="several",
    ),
    "train_prior": StageKind(
        (WEIGHTS, HISTORY, RECORD),
        reads=("dataset", "backbone"),
        blocks=("backbone", "prior", "fit", "compute"),
        devices="several",
    ),
    "train_joint": StageKind(
        (WEIGHTS, PRIOR_WEIGHTS, HISTORY, RECORD),
        reads=("dataset", "pretrained"),
        blocks=("backbone", "prior", "train_joint", "compute"),
        devices="several",
    ),
    "draw_samples": StageKind(
        (SAMPLES,),
        reads=("dataset", "backbone", "prior"),
        blocks=("backbone", "prior", "draw_samples", "compute"),
        devices="several",
    ),
    "resample_layers": StageKind((ARRAYS,), reads=("dataset", "backbone", "samples"), blocks=("backbone", "compute")),
    "evaluate_floor": StageKind(
        (METRICS,),
        reads=("dataset", "features", "reference"),
        blocks=("evaluate_samples", "features", "compute"),
        per_seed=False,
        devices="any",
    ),
    "evaluate_samples": StageKind(
        (METRICS,),
        reads=("dataset", "features", "reference", "samples"),
        blocks=("evaluate_samples", "features", "compute"),
        devices="any",
    ),
    "evaluate_density": StageKind(
        (METRICS, ARRAYS),
        reads=("dataset", "backbone", "prior"),
        blocks=("backbone", "prior", "evaluate_density", "compute"),
    ),
    "count_operations": StageKind(
        (METRICS,),
        reads=("dataset",),
        blocks=("backbone", "prior", "fit", "draw_samples", "evaluation", "compute"),
    ),
    "run_evaluation": StageKind(
        (METRICS, ARRAYS),
        reads=("dataset", "backbone", "prior", "features"),
        blocks=("backbone", "prior", "features", "evaluation", "compute"),
    ),
}
"""Kind → its inputs, outputs and parameters. Each kind comes after those that it reads."""

REPORTS: dict[str, str] = {
    "collect_metrics": "jebm.report.collect:collect",
    "collect_plots": "jebm.report.plots:collect_plots",
    "render_table": "jebm.report.tables:render",
    "render_figure": "jebm.report.render:render",
}
"""Rules that write to results/, and the function behind each."""


@dataclass(frozen=True)
class Stage:
    """One node of a variant's pipeline, without the seed; ``spec`` holds the parameters that it uses.

    Its identity does not contain the study: studies that agree in the parameters of a stage and of its ancestors share
    the result. Random numbers derive from the identity, the seed and a purpose, and from nothing else.
    """

    kind: str
    spec: dict = field(hash=False)
    parent: "Stage | None" = None
    label: str = field(default="", compare=False)
    """The readable part of the folder's name: the study and the component."""

    @cached_property
    def id(self) -> str:
        return digest({"spec": self.spec, "parent": self.parent.id if self.parent else None})

    @property
    def name(self) -> str:
        """The folder's name: ``digits-layerwise-10a593f391``."""
        return f"{self.label}-{self.id}"

    @property
    def per_seed(self) -> bool:
        """Whether each seed has a result of its own."""
        return KINDS[self.kind].per_seed

    @cached_property
    def folder(self) -> Path:
        return DATA / self.name if self.kind == "prepare_dataset" else RUNS / self.kind / self.name

    def job_name(self, seed: int | None) -> str:
        """The name of the job at a seed, for ``jebm run`` and the rules: ``digits-layerwise-10a593f391/seed1``."""
        return f"{self.name}/seed{seed}" if self.per_seed else self.name

    def run_folder(self, seed: int | None) -> Path:
        """The folder of the files of one seed."""
        return self.folder / f"seed{seed}" if self.per_seed else self.folder

    def content_files(self, seed: int | None = None) -> list[str]:
        """The files that later stages may read; ``record.json`` holds times, so no stage reads it."""
        folder = self.run_folder(seed)
        return [f"{folder}/{name}" for name in KINDS[self.kind].outputs if name != RECORD]

    def files(self, seed: int | None = None) -> list[str]:
        """All files of the stage at a seed; the provenance record is the last."""
        folder = self.run_folder(seed)
        return [f"{folder}/{name}" for name in (*KINDS[self.kind].outputs, PROVENANCE)]

    def state_folder(self, seed: int | None) -> Path:
        """The folder for checkpoints, outside everything that Snakemake or DVC declares."""
        return STATE / self.kind / self.id / ("shared" if seed is None else f"seed{seed}")


def slug(*parts: str) -> str:
    """A folder name from several parts, with characters that every file system and shell accepts."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", "-".join(parts)).strip("-")
