"""Functions for the steps that train. They are apart from the other modules, so that no other step depends on the code
of training."""

from pathlib import Path

import torch

from jebm.io.filenames import HISTORY
from jebm.io.files import write_csv
from jebm.io.tensors import Weights
from jebm.steps.run import StageRun
from jebm.steps.save import save_weights
from jebm.training.run import TrainingResult, TrainingRun
from jebm.training.state import StateFile


def training_run(job: StageRun, rng: torch.Generator, *inputs: Path) -> TrainingRun:
    """What the training of a job needs besides model, loss and settings; ``inputs`` are the files that it reads."""
    state = StateFile(job.stage.state_folder(job.seed), job.identity(*inputs))
    return TrainingRun(job.title, state, rng, job.checkpoint_seconds)


def save_training(job: StageRun, weights: Weights, fitted: TrainingResult) -> None:
    """Write history, record and weights. The weights are written last."""
    columns = list(dict.fromkeys(key for row in fitted.history for key in row))
    write_csv(job.folder / HISTORY, columns, fitted.history)
    save_weights(job, weights, fitted.facts, fitted.snapshots)
