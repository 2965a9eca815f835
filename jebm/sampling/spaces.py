"""The two spaces in which a chain can sample a joint EBM prior, and where it can start in each.

Whitened space, ε: log p(ε) = f(T(ε)) + log N(ε; 0, I). Latent space, z = T(ε): log p(z) = f(z) + log p_β(z). The
densities are each other's image under T; what differs is their shape, and with it the step size that a chain bears.
Unadjusted Langevin on z_i | z_{>i} is stable only while s < 2 σ_i, and less where the mean of z_i follows z_{>i}
steeply; in whitened space s < 2 is enough for the Gaussian part.
"""

from abc import ABC, abstractmethod

import torch

from jebm.errors import JebmError
from jebm.models.hierarchy import Hierarchy, TopDown, flatten
from jebm.models.priors import JointPrior, Prior
from jebm.sampling.closed_form import prior_gradient, prior_target
from jebm.sampling.target import Target
from jebm.types import ChainStart, Gradients


class Space(ABC):
    """Chains run on flat x (chains, dimensions); what x stands for is the space's affair."""

    def __init__(self, hierarchy: Hierarchy, prior: Prior):
        self.hierarchy, self.prior = hierarchy, prior

    @abstractmethod
    def target(self, gradients: Gradients = "autograd") -> Target:
        """The density of x under the prior."""

    @abstractmethod
    def start(self, kind: ChainStart, count: int, generator: torch.Generator) -> torch.Tensor:
        """Where ``count`` chains begin, (count, dimensions)."""

    @abstractmethod
    def top_down(self, x: torch.Tensor) -> TopDown:
        """The top-down pass that x stands for."""

    @abstractmethod
    def tilt(self, x: torch.Tensor) -> torch.Tensor:
        """f at x, (batch,), nats; a *negative* energy, the same function in every space."""

    def _normal(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, self.hierarchy.dimensions, generator=generator, device=generator.device)


class Whitened(Space):
    """x = ε. Both starts are N(0, I), which is the Gaussian hierarchy here. Any prior."""

    def target(self, gradients: Gradients = "autograd") -> Target:
        return prior_target(self.prior, gradients)

    def start(self, kind: ChainStart, count: int, generator: torch.Generator) -> torch.Tensor:
        return self._normal(count, generator)

    def top_down(self, x: torch.Tensor) -> TopDown:
        return self.hierarchy.top_down_flat(x)

    def tilt(self, x: torch.Tensor) -> torch.Tensor:
        return self.prior.tilt(x)


class Latent(Space):
    """x = z, all layers side by side, bottom first. Priors whose tilt is an energy of the top-down pass.

    Raises:
        JebmError: the prior has a tilt that is known in ε alone.
    """

    def __init__(self, hierarchy: Hierarchy, prior: Prior):
        if not isinstance(prior, JointPrior):
            raise JebmError(
                f"params.yaml: evaluations: a chain in the space 'z' needs a prior with an energy of z; "
                f"{type(prior).__name__} is known in whitened space only: give it space: whitened"
            )
        super().__init__(hierarchy, prior)

    def target(self, gradients: Gradients = "autograd") -> Target:
        if gradients == "autograd":
            return Target(self._log_prob, gaussian_base=False)
        return Target(self._log_prob, False, prior_gradient(self.prior, "z"), lean=True)

    def _log_prob(self, x: torch.Tensor) -> torch.Tensor:
        top, log_p = self.hierarchy.condition(self.hierarchy.split(x))
        return self.prior.energy(top) + log_p.sum(1)

    def start(self, kind: ChainStart, count: int, generator: torch.Generator) -> torch.Tensor:
        noise = self._normal(count, generator)
        return flatten(self.hierarchy.top_down_flat(noise).z) if kind == "generator" else noise

    def top_down(self, x: torch.Tensor) -> TopDown:
        return self.hierarchy.condition(self.hierarchy.split(x))[0]

    def tilt(self, x: torch.Tensor) -> torch.Tensor:
        return self.prior.energy(self.top_down(x))


SPACES: dict[str, type[Space]] = {"whitened": Whitened, "z": Latent}
