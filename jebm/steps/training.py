"""What the stages that train share, apart from ``common``: other stages must not depend on the code of training."""

from pathlib import Path

import torch

from jebm.io.filenames import HISTORY
from jebm.io.files import write_csv
from jebm.io.tensors import Weights
from jebm.steps.common import Run, publish_weights
from jebm.training.run import Fitted, TrainingRun
from jebm.training.state import StateFile


def training_run(job: Run, rng: torch.Generator, *inputs: Path) -> TrainingRun:
    """What the training of a job needs besides model, loss and settings; ``inputs`` are the files that it reads."""
    state = StateFile(job.stage.state_folder(job.seed), job.identity(*inputs))
    return TrainingRun(job.title, state, rng, job.checkpoint_seconds)


def publish_training(job: Run, weights: Weights, fitted: Fitted) -> None:
    """Write weights (with the arguments that rebuild the module), history and record; the weights last."""
    columns = list(dict.fromkeys(key for row in fitted.history for key in row))
    write_csv(job.folder / HISTORY, columns, fitted.history)
    publish_weights(job, weights, fitted.facts, fitted.snapshots)
