"""Stage 1 of the deep hierarchy: its loss by hand, its penalties, and a state that carries all of it."""

import signal

import pytest
import torch

from jebm.config.training import TrainBackbone
from jebm.errors import InterruptedRunError
from jebm.models.backbones.nvae.hierarchy import NvaeHierarchy
from jebm.runtime.random import make_rng
from jebm.training.elbo import ElboLoss
from jebm.training.loop import Trainer
from jebm.training.regularisation import batch_norm_gains, spectral_norms
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

PIXELS = torch.rand(12, 1, 8, 8, generator=make_rng("deep pixels")) * 2 - 1
PUBLISHED = {
    "optimizer": "adamax", "epsilon": 1e-3, "weight_decay": 3e-4, "learning_rate": 0.01, "warmup_steps": 2,
    "final_learning_rate": 0.01, "kl_warmup": [[1e-4, 0.3001]], "min_kl_weight": 1e-4, "kl_balance": "scale",
    "spectral_penalty": 0.01, "batch_norm_penalty": 0.02, "initial_penalty": 1.0,
}  # fmt: skip


class Deep(NvaeHierarchy):
    """Three layers on two scales, with a flow; may send its own process SIGTERM, or spoil its images, at a call."""

    def __init__(self, stop_at=None, spoil_at=()):
        super().__init__(
            (1, 8, 8), layers_per_scale=[2, 1], latent_channels=2, encoder_channels=4, decoder_channels=4, blocks=0,
            flows=1, preprocess_cells=1, postprocess_cells=1, encoder_cells=1, decoder_cells=1,
            likelihood={"name": "nvae-logistic-mixture", "components": 2, "levels": 17},
        )  # fmt: skip
        self.initialise(make_rng("deep"))
        self.calls, self.stop_at, self.spoil_at = 0, stop_at, spoil_at

    def infer(self, x, rng):
        self.calls += 1
        if self.calls == self.stop_at:
            signal.raise_signal(signal.SIGTERM)
        return super().infer(x * float("nan") if self.calls in self.spoil_at else x, rng)


def settings(**changes):
    return TrainBackbone(**{"steps": 10, "batch_size": 4, "log_interval": 2} | PUBLISHED | changes)


def test_loss_by_hand():
    """Step 150 of 1000: the KL's weight w is (150 − 0.1) / 300, and the penalties weigh 0.01^w and 0.02^w."""
    hierarchy, rng, batch = Deep(), make_rng("loss"), torch.arange(4)
    loss = ElboLoss(hierarchy, PIXELS, settings(steps=1000), rng)
    for _ in range(60):  # until the power iteration has settled
        loss.penalty.spectral()
    twin = make_rng("twin")
    twin.set_state(rng.get_state())
    with torch.no_grad():
        total, scalars = loss(150, batch)
        posterior = hierarchy.infer(PIXELS[batch], twin)
        log_px = hierarchy.decode(posterior.top).log_prob(PIXELS[batch]).mean()
        spectral, gains = spectral_norms(hierarchy), batch_norm_gains(hierarchy)
    weight = (150 - 0.1) / 300
    alpha = torch.tensor([64 / 16 / 2] * 2 + [1.0])
    gamma = (posterior.kl.abs().mean(0) + 0.01) / alpha
    kl = (gamma / gamma.mean() * posterior.kl.mean(0)).sum()
    torch.testing.assert_close(scalars["spectral_norms"], spectral, rtol=1e-3, atol=0)
    torch.testing.assert_close(scalars["batch_norm_gains"], gains)
    expected = -log_px + weight * kl + 0.01**weight * scalars["spectral_norms"] + 0.02**weight * gains
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=0)


def test_after_the_warm_up_the_kl_counts_in_full_and_unbalanced():
    hierarchy = Deep()
    loss = ElboLoss(hierarchy, PIXELS, settings(spectral_penalty=0, batch_norm_penalty=0), make_rng("after"))
    total, scalars = loss(4, torch.arange(4))
    torch.testing.assert_close(total, -scalars["elbo"])


def test_penalty_shrinks_what_it_holds_down(tmp_path):
    final = {}
    for weight in (0.0, 1.0):
        hierarchy, _ = train(
            tmp_path / str(weight), spectral_penalty=weight, initial_penalty=0.0, batch_norm_penalty=0.0
        )
        final[weight] = float(spectral_norms(hierarchy).detach())
    assert final[1.0] < 0.95 * final[0.0]


def train(folder, stop_at=None, spoil_at=(), **changes):
    hierarchy, rng, own = Deep(stop_at, spoil_at), make_rng("train deep"), settings(**changes)
    loss = ElboLoss(hierarchy, PIXELS, own, rng)
    trainer = Trainer(hierarchy, loss, own, TrainingRun("deep", StateFile(folder, {}), rng))
    trainer.train()
    return hierarchy, trainer


@pytest.mark.parametrize("call", [1, 4])
def test_interrupted_run_goes_on_to_the_same_bits(tmp_path, call):
    """Weights, running statistics, their averages, the vectors of the power iteration, skipped steps: all of it."""
    changes = {"ema": 0.9, "skip_non_finite": 2, "spoil_at": (3, 4)}
    hierarchy, trainer = train(tmp_path / "a", **changes)
    with pytest.raises(InterruptedRunError):
        train(tmp_path / "b", stop_at=call, **changes)
    # The calls are counted anew: the same steps are spoilt.
    resumed, again = train(tmp_path / "b", **changes | {"spoil_at": tuple(s - call for s in (3, 4))})
    for name, tensor in hierarchy.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    assert again.state.history == trainer.state.history
    assert trainer.skips.total == again.skips.total == 2
    vectors, others = (t.loss.penalty.spectral.vectors for t in (trainer, again))
    assert all(torch.equal(x, y) for key in vectors for x, y in zip(vectors[key], others[key], strict=True))


def test_skipped_step_leaves_statistics_and_vectors_alone(tmp_path):
    hierarchy, trainer = train(tmp_path, spoil_at=(2, 6, 10), skip_non_finite=1, max_skipped_fraction=0.5)
    assert trainer.skips.total == 3
    assert all(torch.isfinite(t).all() for t in hierarchy.state_dict().values() if t.is_floating_point())
    counts = {int(t) for name, t in hierarchy.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {7}
