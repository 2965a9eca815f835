"""Known distributions of two latents, as what an inference network draws, for priors that are fitted to them."""

import math

import torch
from ladder import Ladder
from oracles import grid
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from jebm.config.training import TrainPrior
from jebm.models.backbones.base import TopDown, flatten, standard_normal_log_prob
from jebm.models.energies.base import Energy
from jebm.runtime.random import make_rng
from jebm.training.run import TrainingRun
from jebm.training.state import StateFile

MEAN, FACTOR = torch.tensor([0.6, -0.5]), torch.tensor([[0.8, 0.0], [0.4, 0.6]])
"""Mean and Cholesky factor of the Gaussian target."""
WEIGHT, CENTRES, WIDTH = 0.7, torch.tensor([[1.4, 0.5], [-1.4, -0.5]]), 0.4
"""Weight of the first mode, centres and width of the target with two separate modes."""
IMAGES = {split: torch.zeros(2000, 1, 1, 1) for split in ("train", "validation")}


def gaussian(count, rng):
    return MEAN + torch.randn(count, 2, generator=rng) @ FACTOR.T


def gaussian_log_prob(eps):
    return MultivariateNormal(MEAN, scale_tril=FACTOR).log_prob(eps)


def two_modes(count, rng):
    second = (torch.rand(count, generator=rng) > WEIGHT).long()
    return CENTRES[second] + WIDTH * torch.randn(count, 2, generator=rng)


def two_modes_log_prob(eps):
    distance = (eps.unsqueeze(1) - CENTRES).square().sum(2) / (2 * WIDTH**2)
    weights = torch.tensor([WEIGHT, 1 - WEIGHT]).log()
    return torch.logsumexp(weights - distance, 1) - math.log(2 * math.pi * WIDTH**2)


TARGETS = {"gaussian": (gaussian, gaussian_log_prob), "two modes": (two_modes, two_modes_log_prob)}


def divergence(log_prob, prior) -> float:
    """KL(q ‖ p) by quadrature, nats, with p normalised on the grid."""
    quadrature = grid(6, 201)
    with torch.no_grad():
        log_q, log_p = log_prob(quadrature.points), prior.log_prob(quadrature.points)
    return float(quadrature.mean(log_q, log_q - log_p)) + quadrature.log_integral(log_p)


def share_of_first_mode(eps: torch.Tensor) -> float:
    """Fraction of draws nearer to the first centre of ``two modes``."""
    return float(((eps.unsqueeze(1) - CENTRES).square().sum(2).argmin(1) == 0).float().mean())


def fitted(fit, prior, folder, seed="fit", **values):
    """Fit a prior on the images of a ladder; returns the result."""
    block = {"steps": 10, "batch_size": 200, "learning_rate": 0.01, "estimator": None, "log_interval": 5}
    run = TrainingRun("prior", StateFile(folder, {}), make_rng(seed))
    result = fit(prior, IMAGES, TrainPrior(**block | values), run)
    prior.requires_grad_(False)
    return result


def ladder(target: str) -> Ladder:
    return Ladder(2, TARGETS[target][0])


class Plain(Ladder):
    """z = ε, so that an energy is a function of ε itself."""

    def __init__(self, target: str):
        super().__init__(2, TARGETS[target][0])

    def descend(self, above, eps):
        z = (eps, *above.z)
        return TopDown(z, z)


class Known(Energy):
    """f is a function of flat z, (batch, 2) → (batch,), plus a linear term with weights 0 whose gradient tests read."""

    def __init__(self, function):
        super().__init__()
        self.function, self.nets = function, nn.ModuleDict({"slope": nn.Linear(5, 1)})
        nn.init.zeros_(self.nets["slope"].weight)
        nn.init.zeros_(self.nets["slope"].bias)

    def initialise(self, rng):
        """Starts from what it was built with."""

    def terms(self, top):
        flat = flatten(top.z)
        monomials = torch.cat([flat, flat.square(), flat.prod(1, keepdim=True)], 1)
        return self.function(flat).unsqueeze(1) + self.nets["slope"](monomials)


def noisy_ratio(target: str, share: float):
    """log q_t − log N(0, I) of √share ε + √(1 − share) ξ with ε from the target, as a function of flat ε_t."""
    noise = (1 - share) * torch.eye(2)
    if target == "gaussian":
        covs, means, weights = (share * FACTOR @ FACTOR.T + noise)[None], share**0.5 * MEAN[None], torch.ones(1)
    else:
        covs = (share * WIDTH**2 * torch.eye(2) + noise).expand(2, 2, 2)
        means, weights = share**0.5 * CENTRES, torch.tensor([WEIGHT, 1 - WEIGHT])
    same = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covs))
    return lambda eps: same.log_prob(eps) - standard_normal_log_prob(eps)
