"""The spaces in which a chain can sample a joint EBM prior, and the start of a chain in each.

Whitened space, ε: log p(ε) = f(T(ε)) + log N(ε; 0, I). Latent space, z = T(ε): log p(z) = f(z) + log p_β(z). T maps one
density to the other. Their shapes differ, and so do the step sizes for which chains are stable: with a step size s, a
standard deviation, unadjusted Langevin dynamics on z_i | z_{>i} needs s < 2 σ_i, and less if the mean of z_i depends
strongly on z_{>i}; in whitened space s < 2 suffices for the Gaussian part.

A third space, ``whitened-biased``, serves only for comparison: ε under f(T(ε)) + log p_β(T(ε)), which T does not map to
the joint prior.
"""

from abc import ABC, abstractmethod

import torch

from jebm.config.types import ChainStart, Gradients
from jebm.errors import SettingError
from jebm.models.backbones.base import Hierarchy, Latents, TopDown, flatten, standard_normal_log_prob
from jebm.models.priors.base import Prior
from jebm.models.priors.ebm import JointPrior
from jebm.sampling.closed_form.gradients import posterior_gradient, prior_gradient, prior_target
from jebm.sampling.posterior import posterior_target
from jebm.sampling.target import Target


class Space(ABC):
    """The coordinates x of chains, flat (chains, dimensions), and their relation to ε and z."""

    def __init__(self, hierarchy: Hierarchy, prior: Prior):
        self.hierarchy, self.prior = hierarchy, prior

    @abstractmethod
    def target(self, gradients: Gradients = "autograd") -> Target:
        """The density of x under the prior, nats."""

    @abstractmethod
    def start(self, kind: ChainStart, count: int, rng: torch.Generator) -> torch.Tensor:
        """The initial states of ``count`` chains, (count, dimensions)."""

    @abstractmethod
    def top_down(self, x: torch.Tensor) -> TopDown:
        """The top-down pass at x."""

    @abstractmethod
    def tilt(self, x: torch.Tensor) -> torch.Tensor:
        """The tilt at x, (batch,), nats; a *negative* energy. For joint priors it is f(z) in every space."""

    @abstractmethod
    def posterior(self, images: torch.Tensor, gradients: Gradients = "autograd") -> Target:
        """The density of x given images (batch, *image_shape), with one chain per image.

        Its value is the log joint density of image and x plus log Z of the prior, nats.
        """

    def latents(self, x: torch.Tensor) -> Latents:
        """The latents z at x."""
        return self.top_down(x).z

    @abstractmethod
    def from_noise(self, eps: torch.Tensor) -> torch.Tensor:
        """Flat ε → x."""

    @abstractmethod
    def to_noise(self, x: torch.Tensor) -> torch.Tensor:
        """x → flat ε."""

    def _normal(self, count: int, rng: torch.Generator) -> torch.Tensor:
        return torch.randn(count, self.hierarchy.dimensions, generator=rng, device=rng.device)

    def _proposed(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """Flat ε from the prior's proposal."""
        return self.prior.proposal.sample(count, rng) if self.prior.proposal else self._normal(count, rng)


class Whitened(Space):
    """x = ε, for any prior. The starts ``normal`` and ``prior`` are both N(0, I), which is the Gaussian hierarchy
    in this space."""

    def target(self, gradients: Gradients = "autograd") -> Target:
        return prior_target(self.prior, gradients)

    def start(self, kind: ChainStart, count: int, rng: torch.Generator) -> torch.Tensor:
        return self._proposed(count, rng) if kind == "proposal" else self._normal(count, rng)

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
    """x = ε under f(T(ε)) + log p_β(T(ε)), which published two-stage code samples; for comparison only.

    It is biased because it omits the Jacobian of the change of variables: the density of ε is
    p(T(ε)) |det ∂T/∂ε| = exp(f(T(ε))) N(ε; 0, I) / Z, and the determinant Π σ_i turns p_β(T(ε)) into N(ε; 0, I).
    Without it the log density has an additional term −Σ_i log σ_i(z_{>i}), and chains drift to small σ_i: for f = 0 and
    z_1 | z_2 ~ N(0, e^{2 z_2}) the mean of z_2 becomes −1.

    Each step needs a second top-down pass for log p_β.

    Raises:
        SettingError: the tilt of the prior is not a function of z.
    """

    def __init__(self, hierarchy: Hierarchy, prior: Prior):
        _require_energy_of_z("whitened-biased", prior)
        super().__init__(hierarchy, prior)

    def target(self, gradients: Gradients = "autograd") -> Target:
        """The gradient is always computed by autograd, since there is no closed form."""
        return Target(self._biased_tilt)

    def _biased_tilt(self, eps: torch.Tensor) -> torch.Tensor:
        """f(T(ε)) + log p_β(T(ε)) − log N(ε; 0, I) = f(T(ε)) − Σ_i log σ_i, (batch,), nats."""
        top = self.hierarchy.top_down_flat(eps)
        _, log_p = self.hierarchy.condition(top.z)
        return self.prior.tilt_after(eps, top) + log_p.sum(1) - standard_normal_log_prob(eps)


class Latent(Space):
    """x = z, the concatenation of all layers, bottom first, for priors whose tilt is an energy of the top-down pass.

    Raises:
        SettingError: the tilt of the prior is not a function of z.
    """

    def __init__(self, hierarchy: Hierarchy, prior: Prior):
        _require_energy_of_z("z", prior)
        super().__init__(hierarchy, prior)

    def target(self, gradients: Gradients = "autograd") -> Target:
        if gradients == "autograd":
            return Target(self._log_prob, gaussian_base=False)
        return Target(self._log_prob, False, prior_gradient(self.prior, "z"), lean=True)

    def _log_prob(self, x: torch.Tensor) -> torch.Tensor:
        top, log_p = self.hierarchy.condition(self.hierarchy.split(x))
        return self.prior.energy(top) + log_p.sum(1)

    def start(self, kind: ChainStart, count: int, rng: torch.Generator) -> torch.Tensor:
        if kind == "normal":
            return self._normal(count, rng)
        return self.from_noise(self._proposed(count, rng) if kind == "proposal" else self._normal(count, rng))

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


def _require_energy_of_z(space: str, prior: Prior) -> None:
    if not isinstance(prior, JointPrior):
        raise SettingError(
            f"a chain in the space '{space}' needs a prior with an energy of z; "
            f"{type(prior).__name__} has none: set its space to 'whitened'"
        )
    if not prior.tilts_normal:
        raise SettingError(
            f"a chain in the space '{space}' needs a prior with the base 'gaussian'; set its space to 'whitened'"
        )


SPACES: dict[str, type[Space]] = {"whitened": Whitened, "whitened-biased": WhitenedBiased, "z": Latent}
