"""The interface of energies: terms of f on one top-down pass. f is a *negative* energy: high means likely."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from jebm.models.hierarchy import TopDown
from jebm.models.nets import initialise, mlp


class Energy(nn.Module, ABC):
    """f(z) = Σ of terms; ``nets`` holds the network of each term under the term's name."""

    nets: nn.ModuleDict

    @abstractmethod
    def terms(self, top: TopDown) -> torch.Tensor:
        """The terms of f, (batch, terms), nats, in the order of ``nets``."""

    def reads(self, layers: int) -> dict[str, tuple[int, ...]] | None:
        """For each term the latents (0 is the bottom one, of ``layers``) that its network reads, side by side as
        vectors; None where it reads anything else. For gradients in closed form."""
        return None

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


class LayerEnergy(Energy):
    """f(z) = Σ_i f_i, f_i a function of z_i … z_L: a term a layer, which can stand under a normaliser of its own."""

    @abstractmethod
    def term(self, number: int, top: TopDown) -> torch.Tensor:
        """f_i of layer ``number`` (1 is the bottom), (batch,), nats.

        ``top`` is the pass down to that layer: its first latent and context are the layer's own.
        """

    def has(self, number: int) -> bool:
        """Whether the layer of that number has an energy."""
        return str(number) in self.nets

    def terms(self, top: TopDown) -> torch.Tensor:
        return torch.stack([self.term(int(number), top.upper(int(number) - 1)) for number in self.nets], dim=1)


def layer_nets(inputs: Sequence[int], hidden: int, depth: int, layers: str | list[int]) -> nn.ModuleDict:
    """A perceptron for each chosen layer, ``inputs`` being the sizes of what those of all layers would see."""
    chosen = range(1, len(inputs) + 1) if layers == "all" else layers
    return nn.ModuleDict({str(number): mlp(inputs[number - 1], 1, hidden, depth) for number in chosen})
