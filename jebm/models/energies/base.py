"""The interface of energies: terms of f on one top-down pass. f is a *negative* energy: high means likely."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import nn

from jebm.config.types import Activation, EnergyStart, LayerChoice, LayerDepth, LayerWidth
from jebm.errors import SettingError
from jebm.models.backbones.base import TopDown
from jebm.models.nets import initialise, mlp


class Energy(nn.Module, ABC):
    """f(z) = Σ of terms; ``nets`` holds the network of each term under the term's name."""

    nets: nn.ModuleDict
    layered = False
    """Whether f has a term per layer that sees no layer below it."""
    start: EnergyStart = "zero"
    """Whether the output layers start at zero: training then starts from f = 0, the Gaussian hierarchy."""

    @abstractmethod
    def terms(self, top: TopDown) -> torch.Tensor:
        """The terms of f, (batch, terms), nats, in the order of ``nets``."""

    def term_inputs(self, layers: int) -> dict[str, tuple[int, ...]] | None:
        """For each term the latents (0 is the bottom one, of ``layers``) that its network reads, side by side as
        vectors; None where it reads anything else. For gradients in closed form."""
        return None

    def forward(self, top: TopDown) -> torch.Tensor:
        """f(z), (batch,), nats."""
        return self.terms(top).sum(1)

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """PyTorch's default for all layers; then, unless ``start`` is ``random``, a zero output layer."""
        initialise(self, rng)
        for net in self.nets.values() if self.start == "zero" else ():
            net[-1].weight.zero_()
            net[-1].bias.zero_()


class LayerEnergy(Energy):
    """f(z) = Σ_i f_i, f_i a function of z_i … z_L: a term per layer, which can stand under a normaliser of its own."""

    layered = True

    @abstractmethod
    def term(self, number: int, top: TopDown) -> torch.Tensor:
        """f_i of layer ``number`` (1 is the bottom), (batch,), nats.

        ``top`` is the pass down to that layer: its first latent and context are the layer's own.
        """

    def has_layer(self, number: int) -> bool:
        """Whether the layer of that number has an energy."""
        return str(number) in self.nets

    def terms(self, top: TopDown) -> torch.Tensor:
        return torch.stack([self.term(int(number), top.above(int(number) - 1)) for number in self.nets], dim=1)


def layer_nets(
    inputs: Sequence[int], hidden: LayerWidth, depth: LayerDepth, chosen: list[int], units: Activation = "silu"
) -> nn.ModuleDict:
    """A perceptron for each layer of the given numbers, ``inputs`` being the sizes of what those of all would see."""
    widths, depths = per_layer("hidden", hidden, len(chosen)), per_layer("depth", depth, len(chosen))
    return nn.ModuleDict(
        {
            str(number): mlp(inputs[number - 1], 1, width, own_depth, units)
            for number, width, own_depth in zip(chosen, widths, depths, strict=True)
        }
    )


def chosen_layers(shapes: Sequence[tuple[int, ...]], choice: LayerChoice) -> list[int]:
    """The numbers of the layers that have an energy, bottom first where the choice does not list them.

    Args:
        shapes: of all layers' latents, bottom first; neighbours with maps of one size, or vectors, are one scale.
    """
    if isinstance(choice, list):
        return choice
    numbers = range(1, len(shapes) + 1)
    if choice == "all":
        return list(numbers)
    scales = [list(group) for _, group in groupby(numbers, key=lambda number: shapes[number - 1][1:])]
    return [number for scale in scales[-choice["top_scales"] :] for number in scale]


def per_layer(key: str, setting: int | list[int], layers: int) -> list[int]:
    """One number for each of the layers that have an energy, in the order in which they were chosen.

    Raises:
        JebmError: the setting is a list of another length.
    """
    numbers = setting if isinstance(setting, list) else [setting] * layers
    if len(numbers) != layers:
        raise SettingError(
            f"prior.energy.{key}: has {len(numbers)} entries, but {layers} layers have an energy; "
            "give one number for all, or one for each of them"
        )
    return numbers
