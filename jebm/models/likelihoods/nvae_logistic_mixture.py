"""The discretised mixture of logistics of published NVAE weights (Vahdat and Kautz, 2020).

It matches published weights in the layout of the parameters, the clamps, and the approximation of the probability mass
of a bin. ``logistic-mixture`` is the same family without these constraints and approximations.
"""

import math
from functools import partial

import torch
from torch.nn.functional import log_softmax, logsigmoid, softplus

from jebm.config.types import Count, GreyLevels
from jebm.errors import SettingError
from jebm.models.likelihoods.base import Likelihood, NvaePixels

LOG_SCALE_MIN = -7.0
EDGES = (-0.999, 0.99)
"""Pixel values below the first and above the second get the mass of the whole tail of a logistic."""
TINY = 1e-5
"""Below this probability, the mass of a bin is approximated by the density at its centre times its width."""
UNIFORM_EDGE = 1e-5


def mixture_channels(colours: int) -> int:
    """Channels of the decoder's output per component of a mixture, for images of 1 or 3 colours."""
    return 10 if colours == 3 else 3


class MixturePixels(NvaePixels):
    """A mixture of logistics, integrated over the bins of the levels, with one component per pixel.

    The mean of green depends linearly on red, and the mean of blue on red and green (Salimans et al., 2017).

    Args:
        levels: number of levels of the data; bins have width 2 / (levels − 1).
    """

    def __init__(self, maps: torch.Tensor, colours: int, levels: int):
        super().__init__(maps, colours)
        blocks = 3 if colours == 3 else 2
        components = maps.shape[1] // mixture_channels(colours)
        self.half_bin, self.log_half_levels = 1 / (levels - 1), math.log((levels - 1) / 2)
        self.logits, rest = self.maps[:, :components], self.maps[:, components:]
        parts = rest.unflatten(1, (colours, blocks, components)).unbind(2)
        self.means, self.log_scales = parts[0], parts[1].clamp(min=LOG_SCALE_MIN)
        self.coefficients = torch.tanh(parts[2]) if colours == 3 else None

    def _conditional_means(self, x: torch.Tensor) -> torch.Tensor:
        """Means of all components given the earlier colours of x, (batch, colours, components, height, width)."""
        if self.coefficients is None:
            return self.means
        (red, green, blue), (c_red, c_green, c_blue) = self.means.unbind(1), self.coefficients.unbind(1)
        x_red, x_green = x[:, 0, None], x[:, 1, None]
        return torch.stack([red, green + c_red * x_red, blue + c_green * x_red + c_blue * x_green], 1)

    def element_log_prob(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.maps)
        distance = x[:, :, None] - self._conditional_means(x)
        inverse = torch.exp(-self.log_scales)
        upper, lower = inverse * (distance + self.half_bin), inverse * (distance - self.half_bin)
        inside, centre = torch.sigmoid(upper) - torch.sigmoid(lower), inverse * distance
        density = centre - self.log_scales - 2 * softplus(centre) - self.log_half_levels
        value = torch.where(inside > TINY, torch.log(inside.clamp(min=1e-10)), density)
        place = x[:, :, None].expand_as(value)
        value = torch.where(place > EDGES[1], -softplus(lower), value)
        value = torch.where(place < EDGES[0], logsigmoid(upper), value)
        return torch.logsumexp(value.sum(1) + log_softmax(self.logits, 1), 1)

    @property
    def mean(self) -> torch.Tensor:
        weights = torch.softmax(self.logits, 1)[:, None]
        coefficients = None if self.coefficients is None else (weights * self.coefficients).sum(2)
        return self._couple_colours((weights * self.means).sum(2), coefficients)

    def sample(self, rng: torch.Generator, temperature: float = 1.0) -> torch.Tensor:
        shape = (len(self.maps), *self.image_shape)
        uniform = partial(torch.rand, generator=rng, device=self.maps.device, dtype=self.maps.dtype)
        edge, width = UNIFORM_EDGE, 1 - 2 * UNIFORM_EDGE
        return self.draw_from(edge + width * uniform(self.logits.shape), edge + width * uniform(shape), temperature)

    def draw_from(self, choice: torch.Tensor, place: torch.Tensor, temperature: float) -> torch.Tensor:
        """The image for given uniform numbers: ``choice`` (batch, components, height, width) selects the components,
        ``place`` (batch, colours, height, width) the quantiles within them."""
        gumbel = -torch.log(-torch.log(choice))
        index = (self.logits / temperature + gumbel).argmax(1)[:, None, None]
        index = index.expand(-1, self.image_shape[0], -1, -1, -1)
        chosen = [part.gather(2, index).squeeze(2) for part in (self.means, self.log_scales)]
        coefficients = None if self.coefficients is None else self.coefficients.gather(2, index).squeeze(2)
        noise = torch.log(place) - torch.log1p(-place)
        return self._couple_colours(chosen[0] + torch.exp(chosen[1]) / temperature * noise, coefficients)

    @staticmethod
    def _couple_colours(values: torch.Tensor, coefficients: torch.Tensor | None) -> torch.Tensor:
        """Add the dependence between colours; each colour is clamped before the next one depends on it."""
        if coefficients is None:
            return values.clamp(-1, 1)
        c_red, c_green, c_blue = coefficients.unbind(1)
        red = values[:, 0].clamp(-1, 1)
        green = (values[:, 1] + c_red * red).clamp(-1, 1)
        return torch.stack([red, green, (values[:, 2] + c_green * red + c_blue * green).clamp(-1, 1)], 1)


class NvaeLogisticMixture(Likelihood):
    """p(x | z) as a discretised mixture of logistics, with the approximations of published NVAE weights.

    Args:
        levels: number of levels of the data: 256 for 8 bits, 32 for 5 bits.
        components: number of components of each mixture.

    Raises:
        SettingError: the images have neither 1 nor 3 colours.
    """

    def __init__(self, image_shape: tuple[int, ...], *, levels: GreyLevels = 256, components: Count = 10):
        super().__init__()
        if len(image_shape) != 3 or image_shape[0] not in (1, 3):
            raise SettingError(
                "backbone.likelihood.name: 'nvae-logistic-mixture' needs images of 1 or 3 colours, not data of shape "
                f"{list(image_shape)}; use 'gaussian'"
            )
        self.image_shape, self.levels = tuple(image_shape), levels
        self.channels = components * mixture_channels(image_shape[0])

    def forward(self, parameters: torch.Tensor) -> MixturePixels:
        return MixturePixels(parameters, self.image_shape[0], self.levels)
