"""The interface of energies: terms of f on one top-down pass. f is a *negative* energy: high means likely."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from jebm.models.hierarchy import TopDown
from jebm.models.nets import initialise


class Energy(nn.Module, ABC):
    """f(z) = Σ of terms; ``nets`` holds the network of each term under the term's name."""

    nets: nn.ModuleDict

    @abstractmethod
    def terms(self, top: TopDown) -> torch.Tensor:
        """The terms of f, (batch, terms), nats, in the order of ``nets``."""

    def forward(self, top: TopDown) -> torch.Tensor:
        """f(z), (batch,), nats."""
        return self.terms(top).sum(1)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Random hidden layers and a zero output layer: training starts from f = 0, the Gaussian hierarchy."""
        initialise(self, generator)
        for net in self.nets.values():
            net[-1].weight.zero_()
            net[-1].bias.zero_()
