"""The two spaces in which a chain can sample a joint EBM prior, and where it can start in each.

Whitened space, ε: log p(ε) = f(T(ε)) + log N(ε; 0, I). Latent space, z = T(ε): log p(z) = f(z) + log p_β(z). The
densities are each other's image under T; what differs is their shape, and with it the step size that a chain bears.
Unadjusted Langevin on z_i | z_{>i} is stable only while s < 2 σ_i, and less where the mean of z_i follows z_{>i}
steeply; in whitened space s < 2 is enough for the Gaussian part.

A third one, ``whitened-biased``, is there to be compared with: ε under f(T(ε)) + log p_β(T(ε)), which is no image of
the joint prior.
"""

from abc import ABC, abstractmethod

import torch

from jebm.config.types import ChainStart, Gradients
from jebm.errors import SettingError
from jebm.models.backbones.base import Hierarchy, Latents, TopDown, flatten, standard_normal_log_prob
from jebm.models.priors.base import Prior
from jebm.models.priors.joint import JointPrior
from jebm.sampling.closed_form.gradients import posterior_gradient, prior_gradient, prior_target
from jebm.sampling.posterior import posterior_target
from jebm.sampling.target import Target


class Space(ABC):
    """Chains run on flat x (chains, dimensions); what x stands for is the space's affair."""

    def __init__(self, hierarchy: Hierarchy, prior: Prior):
        self.hierarchy, self.prior = hierarchy, prior

    @abstractmethod
    def target(self, gradients: Gradients = "autograd") -> Target:
        """The density of x under the prior."""

    @abstractmethod
    def start(self, kind: ChainStart, count: int, rng: torch.Generator) -> torch.Tensor:
        """Where ``count`` chains begin, (count, dimensions)."""

    @abstractmethod
    def top_down(self, x: torch.Tensor) -> TopDown:
        """The top-down pass that x stands for."""

    @abstractmethod
    def tilt(self, x: torch.Tensor) -> torch.Tensor:
        """f at x, (batch,), nats; a *negative* energy, the same function in every space."""

    @abstractmethod
    def posterior(self, images: torch.Tensor, gradients: Gradients = "autograd") -> Target:
        """The density of x given images (batch, *image_shape), a chain each; its value is the log joint density of
        images and x, up to the prior's log Z."""

    def latents(self, x: torch.Tensor) -> Latents:
        """The z that x stands for."""
        return self.top_down(x).z

    @abstractmethod
    def from_noise(self, eps: torch.Tensor) -> torch.Tensor:
        """The x of flat ε."""

    @abstractmethod
    def to_noise(self, x: torch.Tensor) -> torch.Tensor:
        """The flat ε of x."""

    def _normal(self, count: int, rng: torch.Generator) -> torch.Tensor:
        return torch.randn(count, self.hierarchy.dimensions, generator=rng, device=rng.device)


class Whitened(Space):
    """x = ε. Both starts are N(0, I), which is the Gaussian hierarchy here. Any prior."""

    def target(self, gradients: Gradients = "autograd") -> Target:
        return prior_target(self.prior, gradients)

    def start(self, kind: ChainStart, count: int, rng: torch.Generator) -> torch.Tensor:
        return self._normal(count, rng)

    def top_down(self, x: torch.Tensor) -> TopDown:
        return self.hierarchy.top_down_flat(x)

    def tilt(self, x: torch.Tensor) -> torch.Tensor:
        return self.prior.tilt(x)

    def posterior(self, images: torch.Tensor, gradients: Gradients = "autograd") -> Target:
        return posterior_target(self.hierarchy, self.prior, images, gradients)

    def from_noise(self, eps: torch.Tensor) -> torch.Tensor:
        return eps

    def to_noise(self, x: torch.Tensor) -> torch.Tensor:
        return x


class WhitenedBiased(Whitened):
    """x = ε under f(T(ε)) + log p_β(T(ε)): what published two-stage code samples, for comparison only.

    It is biased because a density moves with its coordinates: p(z) at z = T(ε) is the density of z, and that of ε is
    p(T(ε)) |det ∂T/∂ε| = exp(f(T(ε))) N(ε; 0, I) / Z, the determinant Π σ_i being what turns log p_β(T(ε)) into
    log N(ε; 0, I). Without it the chain sees an extra −Σ_i log σ_i(z_{>i}) and drifts to where the backbone is sure of
    itself: with f = 0 and z_1 | z_2 ~ N(0, e^{2 z_2}) the mean of z_2 goes to −1.

    A step costs a second top-down pass, for log p_β.

    Raises:
        JebmError: the prior has a tilt that is known in ε alone.
    """

    def __init__(self, hierarchy: Hierarchy, prior: Prior):
        _refuse_known_in_eps("whitened-biased", prior)
        super().__init__(hierarchy, prior)

    def target(self, gradients: Gradients = "autograd") -> Target:
        """Always by autograd: no closed form is known here."""
        return Target(self._biased_tilt)

    def _biased_tilt(self, eps: torch.Tensor) -> torch.Tensor:
        """f(T(ε)) + log p_β(T(ε)) − log N(ε; 0, I) = f(T(ε)) − Σ_i log σ_i, (batch,), nats."""
        top = self.hierarchy.top_down_flat(eps)
        _, log_p = self.hierarchy.condition(top.z)
        return self.prior.tilt_after(eps, top) + log_p.sum(1) - standard_normal_log_prob(eps)


class Latent(Space):
    """x = z, all layers side by side, bottom first. Priors whose tilt is an energy of the top-down pass.

    Raises:
        JebmError: the prior has a tilt that is known in ε alone.
    """

    def __init__(self, hierarchy: Hierarchy, prior: Prior):
        _refuse_known_in_eps("z", prior)
        super().__init__(hierarchy, prior)

    def target(self, gradients: Gradients = "autograd") -> Target:
        if gradients == "autograd":
            return Target(self._log_prob, gaussian_base=False)
        return Target(self._log_prob, False, prior_gradient(self.prior, "z"), lean=True)

    def _log_prob(self, x: torch.Tensor) -> torch.Tensor:
        top, log_p = self.hierarchy.condition(self.hierarchy.split(x))
        return self.prior.energy(top) + log_p.sum(1)

    def start(self, kind: ChainStart, count: int, rng: torch.Generator) -> torch.Tensor:
        noise = self._normal(count, rng)
        return self.from_noise(noise) if kind == "generator" else noise

    def top_down(self, x: torch.Tensor) -> TopDown:
        return self.hierarchy.condition(self.hierarchy.split(x))[0]

    def tilt(self, x: torch.Tensor) -> torch.Tensor:
        return self.prior.energy(self.top_down(x))

    def posterior(self, images: torch.Tensor, gradients: Gradients = "autograd") -> Target:
        def log_joint(x: torch.Tensor) -> torch.Tensor:
            top, log_p = self.hierarchy.condition(self.hierarchy.split(x))
            return self.hierarchy.decode(top).log_prob(images) + self.prior.energy(top) + log_p.sum(1)

        if gradients == "autograd":
            return Target(log_joint, gaussian_base=False)
        return Target(log_joint, False, posterior_gradient(self.hierarchy, self.prior, images, "z"), lean=True)

    def latents(self, x: torch.Tensor) -> Latents:
        return self.hierarchy.split(x)

    def from_noise(self, eps: torch.Tensor) -> torch.Tensor:
        return flatten(self.hierarchy.top_down_flat(eps).z)

    def to_noise(self, x: torch.Tensor) -> torch.Tensor:
        return flatten(self.hierarchy.whiten(self.hierarchy.split(x)))


def _refuse_known_in_eps(space: str, prior: Prior) -> None:
    if not isinstance(prior, JointPrior):
        raise SettingError(
            f"a chain in the space '{space}' needs a prior with an energy of z; "
            f"{type(prior).__name__} is known in whitened space only: give it space: whitened"
        )


SPACES: dict[str, type[Space]] = {"whitened": Whitened, "whitened-biased": WhitenedBiased, "z": Latent}
