"""A normalising flow over all layers: exact density and exact draws, without an energy."""

from __future__ import annotations

import torch
from zuko.flows import NSF

from jebm.config.types import Annotated, Count, Field, Positive
from jebm.models.backbones.base import Hierarchy, standard_normal_log_prob
from jebm.models.nets import initialise
from jebm.models.priors.base import Prior


class FlowPrior(Prior):
    """p(ε) = N(g(ε); 0, I) |det ∂g/∂ε| with g a stack of coupling layers of rational-quadratic splines (Durkan et al.,
    "Neural spline flows", 2019), fitted by maximum likelihood to draws of q(ε | x) at the training images.

    Each layer transforms half of the dimensions given the other half. Splines act within [−5, 5] and leave everything
    outside as it is. The flow has its own training settings, because it may be the base or the proposal of a prior that
    is trained with others.

    Args:
        transforms: number of coupling layers, each of which transforms both halves.
        hidden, depth: units and number of hidden layers of each layer's network.
        bins: number of bins of each spline.
        steps: number of training steps.
        batch_size: number of images per step, each with a fresh draw of q(ε | x).
        learning_rate: peak learning rate; it decays to 0 along a cosine.
        draws: draws of q(ε | x) for each validation image, whose mean log density selects the saved weights.
    """

    normalised = True
    exact = True
    fit = "jebm.training.flow:fit"

    def __init__(
        self,
        hierarchy: Hierarchy,
        *,
        transforms: Count = 3,
        hidden: Count = 64,
        depth: Count = 2,
        bins: Annotated[int, Field(ge=2)] = 8,
        steps: Count = 1000,
        batch_size: Count = 256,
        learning_rate: Positive = 2e-3,
        draws: Count = 4,
    ):
        super().__init__(hierarchy)
        self.dimensions, self.draws = hierarchy.dimensions, draws
        self.steps, self.batch_size, self.learning_rate = steps, batch_size, learning_rate
        self.flow = NSF(
            self.dimensions, transforms=transforms, bins=bins, passes=2, hidden_features=[hidden] * depth
        ).transform
        for module in self.flow.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, buffer, persistent=False)  # masks and orders follow from the settings
            for parameter in module.parameters(recurse=False):
                torch.nn.init.zeros_(parameter)  # until it is fitted, N(0, I)

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Draw all weights, and set the output layers to zero, so that training starts at N(0, I)."""
        initialise(self.flow, rng)
        for transform in self.flow.transforms:
            for parameter in list(transform.parameters())[-2:]:
                parameter.zero_()

    @property
    def proposal(self) -> Prior:
        return self

    def tilt(self, eps: torch.Tensor) -> torch.Tensor:
        noise, log_det = self.flow().call_and_ladj(eps)
        return standard_normal_log_prob(noise) + log_det - standard_normal_log_prob(eps)

    @torch.no_grad()
    def sample(self, count: int, rng: torch.Generator) -> torch.Tensor:
        noise = torch.randn(count, self.dimensions, generator=rng, device=rng.device)
        return self.flow().inv(noise)
