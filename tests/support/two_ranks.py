"""What a job of several ranks does, scenario by scenario: ``python two_ranks.py FOLDER``, once for each rank.

Each rank leaves a dictionary of what it saw in FOLDER/rank<r>.pt.
"""

import hashlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch
from losses import FunctionLoss
from oracles import joint_prior
from torch import nn

from jebm.config.training import Optimisation, TrainPrior
from jebm.errors import DivergedError, InterruptedRunError
from jebm.metrics.statistics import gather
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.runtime.distributed import process_group, ranks
from jebm.runtime.random import make_rng
from jebm.training import ebm
from jebm.training.estimators import short_run
from jebm.training.loop import Trainer
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

DATA = torch.randn(23, 3, generator=make_rng("rank data"))
FEATURES = torch.randn(41, 5, generator=make_rng("rank features"))
SETTINGS = {"steps": 9, "batch_size": 6, "learning_rate": 0.05, "log_interval": 1, "weight_decay": 0.1, "ema": 0.8}


def start(folder: Path, size: int = 2) -> list[dict]:
    """Run the scenarios on some ranks, and return what each of them saw."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = []
    for rank in range(size):
        environment = {key: str(value) for key, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
        path = os.pathsep.join(sys.path)
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, str(folder)],
                env={**os.environ, **environment, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert all(process.returncode == 0 for process in processes), errors
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(size)]


class Job:
    """One run of a tiny regression with batch normalisation, with noise if asked for.

    ``disturb(step)`` happens in the loss, and what it returns multiplies it.
    """

    def __init__(self, folder: Path, noise: float = 0.0, norm: bool = True, disturb=lambda step: 1.0, **settings):
        rng = make_rng("rank run")
        self.module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4) if norm else nn.Tanh(), nn.Linear(4, 1))
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.normal_(generator=rng)
        self.batches, self.noise, self.digests = [], [], []

        def loss(step, batch):
            x = DATA[batch]
            draws = torch.randn(len(x), 1, generator=rng)
            self.batches.append(batch.tolist())
            self.noise.append(draws)
            self.digests.append(digest(self.module))
            value = (self.module(x) - x.sum(1, keepdim=True) + noise * draws).square().mean()
            return value * disturb(step), {"square": value.detach()}

        run = TrainingRun("tiny run", StateFile(folder / "state", {"run": "the same"}), rng)
        optimisation = Optimisation(**{**SETTINGS, **settings})
        self.trainer = Trainer(self.module, FunctionLoss(len(DATA), loss), optimisation, run)

    def run(self) -> dict:
        """Train; what was seen, and how it ended."""
        ended = ""
        try:
            self.trainer.train()
        except (InterruptedRunError, DivergedError) as error:
            ended = str(error)
        return {
            "ended": ended,
            "batches": self.batches,
            "noise": self.noise,
            "digests": self.digests,
            "weights": {name: tensor.clone() for name, tensor in self.module.state_dict().items()},
            "history": self.trainer.state.history,
            "step": self.trainer.state.step,
        }


def digest(module: nn.Module) -> str:
    """Of all parameters and buffers."""
    tensors = [tensor.detach().numpy().tobytes() for tensor in module.state_dict().values()]
    return hashlib.sha256(b"".join(tensors)).hexdigest()


def on(rank: int, step: int, action):
    """Something that one rank does at one step."""

    def disturb(now):
        return action() if now == step and ranks().rank == rank else 1.0

    return disturb


def terminate() -> float:
    os.kill(os.getpid(), signal.SIGTERM)
    return 1.0


def interrupted(folder: Path) -> dict:
    """Stopped by a signal to rank 1 alone, then gone on with."""
    stopped = Job(folder, noise=0.3, disturb=on(1, 3, terminate)).run()
    return {"stopped": stopped, "resumed": Job(folder, noise=0.3).run()}


def left(folder: Path) -> dict:
    """Stopped in the middle of the second epoch, and left so."""
    return Job(folder, noise=0.3, norm=False, disturb=on(0, 3, terminate)).run()


def diverged(folder: Path) -> dict:
    """NaN on rank 1 alone."""
    return Job(folder, disturb=on(1, 4, lambda: float("nan"))).run()


def skipped(folder: Path) -> dict:
    """NaN on rank 1 alone, where a step may be skipped."""
    return Job(folder, disturb=on(1, 4, lambda: float("nan")), skip_non_finite=2).run()


def taken_over(folder: Path) -> dict:
    """A state of one process, gone on with by several."""
    if ranks().is_rank_zero:
        (folder / "state").mkdir(parents=True)
        for path in (folder.parent / "single" / "state").iterdir():
            (folder / "state" / path.name).write_bytes(path.read_bytes())
    ranks().barrier()
    return Job(folder, norm=False).run()


def negatives(folder: Path) -> dict:
    """What the chains of stage 2 leave at the first steps, by the module's own loss."""
    hierarchy = PerceptronHierarchy((1, 2, 2), latent_dims=[3, 2], hidden=6, depth=1)
    hierarchy.initialise(make_rng("rank hierarchy"))
    prior = joint_prior(hierarchy, hidden=8).requires_grad_(True)
    pixels = torch.rand(24, 1, 2, 2, generator=make_rng("rank pixels")) * 2 - 1
    estimator = {"name": "short-run", "kernel": {"name": "pcnl", "step_size": 0.3}, "steps": 3}
    settings = TrainPrior(steps=3, batch_size=8, learning_rate=0.01, log_interval=1, estimator=estimator)
    ends, original = [], short_run.run_chain

    def watched(*arguments, **options):
        result = original(*arguments, **options)
        ends.append(result.x.clone())
        return result

    short_run.run_chain = watched
    run = TrainingRun("stage 2", StateFile(folder / "state", {}), make_rng("stage 2"))
    ebm.fit(prior, {"train": pixels}, settings, run)
    short_run.run_chain = original
    return {"ends": ends, "digest": digest(prior)}


def operations(folder: Path) -> dict:
    """Each operation once."""
    own = ranks()
    used, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    used.grad = torch.tensor([1.0, 3.0]) * (own.rank + 1)
    own.average_gradients([used, unused])
    common = make_rng("common")
    order = own.fork_rng(common)
    return {
        "gradient": used.grad,
        "unused": unused.grad,
        "means": own.mean({"a": torch.tensor(1.0 + own.rank), "b": torch.tensor(float("nan") if own.rank else 0.0)}),
        "largest": own.max(own.rank, -own.rank),
        "gathered": own.all_gather(torch.tensor([own.rank])),
        "collected": own.gather_object({"rank": own.rank}),
        "merged": list(own.interleave([f"{own.rank}.{i}" for i in range(3 - own.rank)])),
        "part": list(own.shard_range(7)),
        "own": torch.randn(4, generator=common),
        "order": torch.randn(4, generator=order),
    }


def statistics(folder: Path):
    """Of features, each rank the batches of its part."""
    part = ranks().shard_range(len(FEATURES))
    found = gather(FEATURES[part.start : part.stop].split(7), len(FEATURES), 10)
    return found and {key: torch.from_numpy(getattr(found, key)) for key in ("mean", "covariance", "kept")}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with process_group(int(os.environ["WORLD_SIZE"]), "cpu"):
        seen = {
            "operations": operations(folder),
            "plain": Job(folder / "plain", norm=False).run(),
            "normalised": Job(folder / "normalised", noise=0.3).run(),
            "interrupted": interrupted(folder / "interrupted"),
            "left": left(folder / "left"),
            "diverged": diverged(folder / "diverged"),
            "skipped": skipped(folder / "skipped"),
            "taken over": taken_over(folder / "taken over"),
            "negatives": negatives(folder / "negatives"),
            "statistics": statistics(folder / "statistics"),
        }
        torch.save(seen, folder / f"rank{ranks().rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
