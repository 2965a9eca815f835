"""A two-dimensional prior with two separate modes of unequal weight, whose log Z quadrature knows."""

import torch
from oracles import LinearHierarchy, grid, joint_prior
from torch import nn

from jebm.models.backbones.base import flatten
from jebm.models.priors.ebm import JointPrior
from jebm.models.priors.mixture import MixturePrior


class Bumps(nn.Module):
    """f(z) = strength · log Σ_k exp(w_k − |z − c_k|² / 2s²), with two bumps at ±centre; w are the parameters."""

    def __init__(self, weights=(1.5, -1.0), centre=2.0, width=0.4):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))
        self.centres, self.width, self.strength = torch.tensor([[centre, 0.0], [-centre, 0.0]]), width, 1.0

    def initialise(self, rng):
        """Nothing to set."""

    def forward(self, top):
        distance = (flatten(top.z).unsqueeze(1) - self.centres).square().sum(2)
        return self.strength * torch.logsumexp(self.weights - distance / (2 * self.width**2), 1)


class Identity(LinearHierarchy):
    """z = ε, in two layers of one dimension."""

    def __init__(self):
        super().__init__((1, 1))
        self.maps, self.offsets, self.scales = [torch.zeros(1, 1)], [torch.zeros(1)], [torch.ones(1)]


def bimodal_prior(proposal: bool = True, **energy) -> JointPrior:
    """The prior; its proposal is a mixture of two wide Gaussians of equal weight near the modes, or N(0, I)."""
    prior = joint_prior(Identity(), Bumps(**energy)).requires_grad_(True)
    if proposal:
        mixture = MixturePrior(prior.hierarchy, components=[2])
        means = torch.tensor([[1.8, 0.1], [-1.6, 0.0]])
        mixture.set(torch.log(torch.tensor([0.5, 0.5])), means, 0.6 * torch.eye(2).expand(2, 2, 2))
        prior.own_proposal = mixture
    return prior


def exact_log_z(prior: JointPrior) -> float:
    """log Z by quadrature, nats."""
    quadrature = grid(6, 401)
    with torch.no_grad():
        # log_prob has the normalised N(0, I) as a factor.
        return quadrature.log_integral(prior.log_prob(quadrature.points))


def exact_gradient(prior: JointPrior) -> torch.Tensor:
    """∂ log Z / ∂w = E_p[∂f/∂w] by quadrature, (2,), float64."""
    quadrature = grid(6, 401)
    points = quadrature.points
    energy, z = prior.energy, prior.hierarchy.top_down_flat(points).z
    with torch.no_grad():
        distance = (flatten(z).unsqueeze(1) - energy.centres).square().sum(2)
        shares = energy.strength * torch.softmax(energy.weights - distance / (2 * energy.width**2), 1)
        return quadrature.mean(prior.log_prob(points), shares)
