"""Selection of the final weights by their likelihood on the validation split."""

import math

import torch

from jebm.config.training import Selection
from jebm.data.batches import Pixels, batches
from jebm.models.backbones.base import TopDown, flatten
from jebm.models.priors.ebm import JointPrior
from jebm.sampling.proposal import Proposal

CHUNK = 2000
"""Number of latents that are evaluated at once."""


class ValidationGain:
    """G = E_q[tilt(ε)] − log Z on the validation images, nats per image: by how much the bound on log p(x) exceeds that
    of the Gaussian prior.

    The posterior draws, and the proposals of the importance-sampling estimate of log Z, are drawn once, so that the
    gains of two training steps differ by the energies alone.

    Args:
        pixels: validation images (count, *image_shape) in [−1, 1].
        rng: for both kinds of draws.
    """

    @torch.no_grad()
    def __init__(self, prior: JointPrior, pixels: Pixels, settings: Selection, rng: torch.Generator):
        self.prior, self.every = prior, settings.every
        hierarchy = prior.hierarchy
        eps = torch.cat(
            [flatten(hierarchy.infer(x, rng).eps) for _ in range(settings.draws) for x in batches(pixels, CHUNK)]
        )
        proposal = Proposal(prior, hierarchy.dimensions)
        draws = proposal.sample(settings.proposals, rng)
        self.positive = [hierarchy.top_down_flat(part) for part in eps.split(CHUNK)]
        self.proposed = [hierarchy.top_down_flat(part) for part in draws.split(CHUNK)]
        self.base_of_positive = prior.base.tilt(eps).mean()
        self.correction = torch.cat([proposal.base_ratio(prior.base, part) for part in draws.split(CHUNK)])

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        """G under the present weights, a scalar."""
        log_w = self._energy(self.proposed) + self.correction
        log_z = torch.logsumexp(log_w.double(), 0) - math.log(len(log_w))
        return (self._energy(self.positive).mean() + self.base_of_positive - log_z).float()

    def _energy(self, passes: list[TopDown]) -> torch.Tensor:
        return torch.cat([self.prior.energy(top) for top in passes])
