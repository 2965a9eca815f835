"""The interface of energies: f as a function of a top-down pass. f is a *negative* energy: high means likely."""

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
    """f(z) is a sum of terms, each computed by a network; ``nets`` maps the name of a term to its network."""

    nets: nn.ModuleDict
    layered = False
    """Whether f has one term per layer, which is independent of the layers below."""
    start: EnergyStart = "zero"
    """With ``zero``, output layers are initialised to zero, and training starts from f = 0, the Gaussian hierarchy."""

    @abstractmethod
    def terms(self, top: TopDown) -> torch.Tensor:
        """The terms of f, (batch, terms), nats, in the order of ``nets``."""

    def term_inputs(self, layers: int) -> dict[str, tuple[int, ...]] | None:
        """Term → indices of the latents (0 is the bottom layer) whose concatenation is the input of its network.

        None if the input of a network is anything else. Gradients in closed form need this.
        """
        return None

    def forward(self, top: TopDown) -> torch.Tensor:
        """f(z), (batch,), nats."""
        return self.terms(top).sum(1)

    @torch.no_grad()
    def initialise(self, rng: torch.Generator) -> None:
        """Initialise all layers by PyTorch's default; if ``start`` is ``zero``, set the output layers to zero."""
        initialise(self, rng)
        for net in self.nets.values() if self.start == "zero" else ():
            net[-1].weight.zero_()
            net[-1].bias.zero_()


class LayerEnergy(Energy):
    """f(z) = Σ_i f_i(z_i, …, z_L): one term per layer. Each term can also be normalised separately, given z_{>i}."""

    layered = True

    @abstractmethod
    def term(self, number: int, top: TopDown) -> torch.Tensor:
        """f_i of layer ``number`` (1 is the bottom layer), (batch,), nats.

        ``top`` is the pass down to that layer, so its first latent and context are those of the layer.
        """

    def has_layer(self, number: int) -> bool:
        """Whether the layer has an energy; 1 is the bottom layer."""
        return str(number) in self.nets

    def terms(self, top: TopDown) -> torch.Tensor:
        return torch.stack([self.term(int(number), top.above(int(number) - 1)) for number in self.nets], dim=1)


def layer_nets(
    inputs: Sequence[int], hidden: LayerWidth, depth: LayerDepth, chosen: list[int], units: Activation = "silu"
) -> nn.ModuleDict:
    """Layer number → multilayer perceptron for the chosen layers. ``inputs`` are the input sizes of all layers."""
    widths, depths = per_layer("hidden", hidden, len(chosen)), per_layer("depth", depth, len(chosen))
    return nn.ModuleDict(
        {
            str(number): mlp(inputs[number - 1], 1, width, own_depth, units)
            for number, width, own_depth in zip(chosen, widths, depths, strict=True)
        }
    )


def chosen_layers(shapes: Sequence[tuple[int, ...]], choice: LayerChoice) -> list[int]:
    """The numbers of the layers that have an energy: in the order of a list, otherwise from the bottom.

    Args:
        shapes: shapes of the latents of all layers, bottom first. Neighbouring layers with maps of the same size, or
            with vectors, form one scale.
    """
    if isinstance(choice, list):
        return choice
    numbers = range(1, len(shapes) + 1)
    if choice == "all":
        return list(numbers)
    scales = [list(group) for _, group in groupby(numbers, key=lambda number: shapes[number - 1][1:])]
    return [number for scale in scales[-choice["top_scales"] :] for number in scale]


def per_layer(key: str, setting: int | list[int], layers: int) -> list[int]:
    """The setting for each layer that has an energy, in the order of :func:`chosen_layers`.

    Raises:
        SettingError: the setting is a list of another length.
    """
    numbers = setting if isinstance(setting, list) else [setting] * layers
    if len(numbers) != layers:
        raise SettingError(
            f"prior.energy.{key}: has {len(numbers)} entries, but {layers} layers have an energy; "
            "give one number for all layers, or one for each"
        )
    return numbers
