"""A run of a stage: what every step receives, and the settings of torch that it needs.

A step imports only what it uses. The modules that it imports are its code, and an edit of one of them makes its results
stale.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from jebm.data.batches import Pixels
from jebm.data.dataset import Dataset, load_dataset
from jebm.errors import SettingError
from jebm.io.digests import digest_of
from jebm.pipeline.stages import Stage
from jebm.pipeline.study import StudyPlan, Variant
from jebm.runtime.distributed import local_device
from jebm.runtime.random import derive_seed, make_rng


@dataclass(frozen=True)
class StageRun:
    """One run of a stage of a variant, at a seed."""

    plan: StudyPlan
    variant: Variant
    stage: Stage
    seed: int | None
    checkpoint_seconds: float = 60.0
    code: str = ""
    """Digest of the code of this job."""
    data_on_device: bool | None = None
    """Whether training images are kept on the device; None keeps them there if they fit."""

    @property
    def folder(self) -> Path:
        return self.stage.run_folder(self.seed)

    @property
    def title(self) -> str:
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"{self.plan.name} {self.stage.kind} {self.stage.id}{seed}"

    @property
    def device(self) -> str:
        return local_device(self.variant.params.compute.device)

    def rng(self, purpose: str, of: Stage | None = None) -> torch.Generator:
        """The random number generator of this job for a purpose. With ``of``, it is common to all jobs that depend on
        that stage at this seed."""
        return make_rng((of or self.stage).id, self.seed, purpose, device=self.device)

    def derived_seed(self, purpose: str, of: Stage | None = None) -> int:
        """See :meth:`rng`."""
        return derive_seed((of or self.stage).id, self.seed, purpose)

    def dataset(self) -> Dataset:
        return load_dataset(self.variant.dataset.folder)

    def pixels(self, data: Dataset, split: str, flips: torch.Generator | None = None) -> Pixels:
        """A split as floats on the device, converted batch by batch."""
        return Pixels(data.images(split), data.levels, self.device, flips, self.data_on_device)

    def identity(self, *inputs: Path) -> dict:
        """What must be equal for a checkpoint to be resumed."""
        return {
            "parameters": self.stage.id,
            "seed": self.seed,
            "data": [digest_of(path) for path in inputs],
            "code": self.code,
            "torch": str(torch.__version__),  # a plain string, since checkpoints are read with weights_only
        }


def prepare_compute(run: StageRun) -> None:
    """Set the number of threads, on which rounding depends, and the options of a GPU.

    Raises:
        SettingError: the device does not exist.
    """
    torch.set_num_threads(run.variant.params.compute.threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = run.variant.params.compute.tf32
    try:
        torch.zeros(1, device=run.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"{run.plan.name}.compute.device: '{run.device}' can't be used: {reason}") from None
