"""The terms of a sequential prior, each by maximum likelihood given the layers above."""

from functools import partial

import torch

from jebm.config.training import TrainPrior
from jebm.data.batches import Pixels
from jebm.models.nets import frozen
from jebm.models.priors.sequential import SequentialPrior
from jebm.sampling.run import run_chain
from jebm.sampling.target import Target
from jebm.training.ebm import adapt, adaptive_kernel, carrying, fit_energies
from jebm.training.loop import Loss


def layer_losses(prior: SequentialPrior, pixels: Pixels, settings: TrainPrior, generator: torch.Generator) -> Loss:
    """Descends Σ_i E[f_i(ε_i⁻ | ε_{>i}⁺)] − E[f_i(ε_i⁺ | ε_{>i}⁺)], with ε⁺ from q(ε | x).

    ε_i⁻ comes from a chain on ε_i alone, from N(0, I), while the layers above stay where the posterior put them. The
    terms share no parameter, so that one step on their sum is a step of each layer's own training, except that a
    limit on the gradient norm counts all of them. One step size serves all layers; it adapts to their mean acceptance.

    ``gap_z1``, … are the layers' E[f_i⁺] − E[f_i⁻], nats, ``energy_gap`` their sum.
    """
    adaptive = adaptive_kernel(settings)
    hierarchy, energy = prior.hierarchy, prior.energy

    def loss(step: int, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.no_grad():
            posterior = hierarchy.infer(pixels[batch], generator)
        gaps, acceptance = {}, []
        for number in map(int, energy.nets):
            above = posterior.top.upper(number)
            tilt = partial(prior.layer_tilt, above)
            positive = posterior.eps[number - 1].flatten(1)
            start = torch.randn(positive.shape, generator=generator, device=positive.device)
            with frozen(prior):
                chain = run_chain(adaptive.kernel, Target(tilt), start, settings.chain.steps, generator)
            gaps[f"gap_z{number}"] = tilt(positive).mean() - tilt(chain.x).mean()
            acceptance.append(chain.acceptance)
        gap, accepted = sum(gaps.values()), torch.stack(acceptance).mean()
        return -gap, {"energy_gap": gap, **gaps, "acceptance": accepted, **adapt(adaptive, accepted)}

    return carrying(loss, adaptive)


fit = partial(fit_energies, layer_losses)
