"""The kinds of stage, described once.

Plan, jobs, rules, command line and documentation read :data:`KINDS`. A kind is called like its rule in ``workflow/``
and like the module of ``jebm.steps`` that makes it. A new kind is one entry here, one rule and one module.
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
    """What the jobs of one kind of stage read and write."""

    outputs: tuple[str, ...]
    """Files in the stage's folder, besides its provenance record."""
    reads: tuple[str, ...] = ()
    """Stages of the variant whose files the jobs read, by their role in :class:`jebm.pipeline.study.Variant`."""
    blocks: tuple[str, ...] = ()
    """Blocks of parameters that the jobs read; see :meth:`jebm.pipeline.study.Variant.block`."""
    per_seed: bool = True
    """Whether each seed has a job of its own. Without, one result serves all seeds."""
    devices: str = "one"
    """``several``: ``compute.devices`` processes share the work, and the result depends on their number;
    ``any``: they share the work, and the result does not depend on it; ``one``: never more than one process."""


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
    "run_evaluation": StageKind(
        (METRICS, ARRAYS),
        reads=("dataset", "backbone", "prior", "features"),
        blocks=("backbone", "prior", "features", "evaluation", "compute"),
    ),
}
"""Kind → what its jobs read and write, in an order in which each kind stands after those that it reads from."""

REPORTS: dict[str, str] = {
    "collect_metrics": "jebm.report.collect:collect",
    "collect_plots": "jebm.report.plots:collect_plots",
    "render_table": "jebm.report.tables:render",
    "render_figure": "jebm.report.render:render",
}
"""Rules that write to results/, and the function behind each."""


@dataclass(frozen=True)
class Stage:
    """One node of a variant's pipeline, without the seed: ``spec`` are the parameters that it uses.

    The identity names no study: studies that agree on the parameters of a stage and of its ancestors share its result.
    Random streams derive from the identity and the seed, and from nothing else.
    """

    kind: str
    spec: dict = field(hash=False)
    parent: "Stage | None" = None
    label: str = field(default="", compare=False)
    """What the folder's name says besides the identity, for people: the study and the component."""

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

    @property
    def folder(self) -> Path:
        return DATA / self.name if self.kind == "prepare_dataset" else RUNS / self.kind / self.name

    def job_name(self, seed: int | None) -> str:
        """How ``jebm run`` and the rules name the job at a seed: ``digits-layerwise-10a593f391/seed1``."""
        return f"{self.name}/seed{seed}" if self.per_seed else self.name

    def run_folder(self, seed: int | None) -> Path:
        """Where the files of one seed live."""
        return self.folder / f"seed{seed}" if self.per_seed else self.folder

    def content_files(self, seed: int | None = None) -> list[str]:
        """The paths of what later stages read of this one at a seed; ``record.json`` holds times, which none reads."""
        return [str(self.run_folder(seed) / name) for name in KINDS[self.kind].outputs if name != RECORD]

    def files(self, seed: int | None = None) -> list[str]:
        """The paths of everything that the stage leaves at a seed; the provenance record is the last."""
        return [str(self.run_folder(seed) / name) for name in (*KINDS[self.kind].outputs, PROVENANCE)]

    def state_folder(self, seed: int | None) -> Path:
        """Where an unfinished run keeps its training state: outside everything that Snakemake or DVC declares."""
        return STATE / self.kind / self.id / ("shared" if seed is None else f"seed{seed}")


def slug(*parts: str) -> str:
    """Parts of a folder's name, in characters that every file system and shell takes as they are."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", "-".join(parts)).strip("-")
