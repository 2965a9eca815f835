"""Weights on disk, with the record of how they were made."""

import platform

import torch

from jebm.io.filenames import RECORD, WEIGHTS
from jebm.io.files import write_json
from jebm.io.tensors import Weights, with_snapshots, write_tensors
from jebm.steps.run import StageRun


def save_weights(run: StageRun, weights: Weights, facts: dict, snapshots: dict[int, Weights] | None = None) -> None:
    """Write the record and the weights, with the arguments that rebuild the module. The weights are written last."""
    # The step size is stored with the weights, since samples may depend on it; no stage reads the record.
    header = weights_header(run) | {key: facts[key] for key in ("step_size",) if key in facts}
    facts = {"parameters": sum(tensor.numel() for tensor in weights.values()), **facts}
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    write_json(run.folder / RECORD, {**header, **facts, "versions": versions})
    write_tensors(run.folder / WEIGHTS, with_snapshots(weights, snapshots or {}), header)


def weights_header(run: StageRun) -> dict:
    """The header of a file of weights: the arguments that rebuild the module, and the seed."""
    return {"kind": run.stage.kind, "spec": run.stage.spec, "seed": run.seed, "stage": run.stage.id}
