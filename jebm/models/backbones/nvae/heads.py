"""p(x | z) from the output maps of the decoder: pixels x in [−1, 1], (batch, colours, height, width).

These heads must match published weights in the layout of the parameters, the clamps, and the approximation of the
probability mass of a bin. ``jebm.models.likelihoods`` contains likelihoods of the same families without these
constraints, and without the approximations.

The meaning of a temperature other than 1 is that of the published code and depends on the head, see
:meth:`HeadDistribution.sample`.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import log_softmax, logsigmoid, softplus

from jebm.errors import SettingError
from jebm.models.backbones.nvae.gaussians import FLOOR, Normal, soft_clamp
from jebm.models.likelihoods.base import PixelDistribution

LOG_SCALE_MIN = -7.0
EDGES = (-0.999, 0.99)
"""Pixel values below the first and above the second get the mass of the whole tail of a logistic."""
TINY = 1e-5
"""Below this probability, the mass of a bin is approximated by the density at its centre times its width."""
UNIFORM_EDGE = 1e-5


class HeadDistribution(PixelDistribution):
    """A distribution over images.

    Args:
        maps: the decoder's output, (batch, channels of the head, height, width), converted at least to float32.
        colours: number of channels of the image.
    """

    def __init__(self, maps: torch.Tensor, colours: int):
        self.image_shape = (colours, *maps.shape[2:])
        self.maps = maps.to(torch.promote_types(maps.dtype, torch.float32))

    @abstractmethod
    def element_log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """log p, nats, of each channel of each pixel, (batch, colours, height, width); of each pixel, (batch, height,
        width), if the channels are dependent."""

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return self.element_log_prob(x).flatten(1).sum(1)

    @abstractmethod
    def sample(self, rng: torch.Generator, temperature: float = 1.0) -> torch.Tensor:
        """One image per distribution, clamped to [−1, 1] but not rounded to the levels of the data.

        The mixture divides both the scales of its components and the logits of the choice by the temperature, so a
        temperature below 1 gives *more* noise. The Bernoulli head divides its logits. The Gaussian head ignores it.
        """


class BernoulliPixels(HeadDistribution):
    """Pixels that are −1 or 1; the maps are the logits of 1. Other values give the cross-entropy with (x + 1) / 2."""

    @staticmethod
    def channels(colours: int) -> int:
        return colours

    @property
    def mean(self) -> torch.Tensor:
        return 2 * torch.sigmoid(self.maps) - 1

    def element_log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * (x + 1) * self.maps - softplus(self.maps)

    def sample(self, rng: torch.Generator, temperature: float = 1.0) -> torch.Tensor:
        return 2 * torch.bernoulli(torch.sigmoid(self.maps / temperature), generator=rng) - 1


class GaussianPixels(HeadDistribution):
    """N(mean, sigma²) for every channel of every pixel: a *density*, not a mass on levels. The mean may exceed ±1.

    Args:
        log_sigma_min: lower bound of log σ in ``log_prob`` only. −5 has no effect; −2 is the likelihood that VAEBM
            reports, which differs from the one its backbone was trained with.
    """

    def __init__(self, maps: torch.Tensor, colours: int, log_sigma_min: float = -5.0):
        super().__init__(maps, colours)
        self.normal = Normal.from_raw(*self.maps.chunk(2, dim=1))
        floor = soft_clamp(self.maps.chunk(2, dim=1)[1]).clamp(min=log_sigma_min)
        self.for_density = Normal(self.normal.mean, torch.exp(floor) + FLOOR)

    @staticmethod
    def channels(colours: int) -> int:
        return 2 * colours

    @property
    def mean(self) -> torch.Tensor:
        return self.normal.mean

    def element_log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return self.for_density.log_prob(x)

    def sample(self, rng: torch.Generator, temperature: float = 1.0) -> torch.Tensor:
        mean = self.normal.mean
        noise = torch.randn(mean.shape, generator=rng, device=mean.device, dtype=mean.dtype)
        return self.normal.transform(noise).clamp(-1, 1)


class MixturePixels(HeadDistribution):
    """A mixture of logistics, integrated over the bins of the levels, with one component per pixel.

    The mean of green depends linearly on red, and the mean of blue on red and green (Salimans et al., 2017).

    Args:
        levels: number of levels of the data; bins have width 2 / (levels − 1).
    """

    def __init__(self, maps: torch.Tensor, colours: int, levels: int):
        super().__init__(maps, colours)
        components, blocks = self.components(maps.shape[1], colours), 3 if colours == 3 else 2
        self.half_bin, self.log_half_levels = 1 / (levels - 1), math.log((levels - 1) / 2)
        self.logits, rest = self.maps[:, :components], self.maps[:, components:]
        parts = rest.unflatten(1, (colours, blocks, components)).unbind(2)
        self.means, self.log_scales = parts[0], parts[1].clamp(min=LOG_SCALE_MIN)
        self.coefficients = torch.tanh(parts[2]) if colours == 3 else None

    @staticmethod
    def channels(colours: int, components: int) -> int:
        return components * (10 if colours == 3 else 3)

    @classmethod
    def components(cls, channels: int, colours: int) -> int:
        """The number of components for a number of channels of the maps."""
        return channels // cls.channels(colours, 1)

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


def make_head(
    name: str, colours: int, components: int, levels: int, log_sigma_min: float
) -> tuple[int, Callable[[torch.Tensor], HeadDistribution]]:
    """The number of channels of a head, and the function from maps to a distribution.

    Raises:
        SettingError: a mixture for images with neither 1 nor 3 colours.
    """
    if name == "bernoulli":
        return BernoulliPixels.channels(colours), partial(BernoulliPixels, colours=colours)
    if name == "gaussian":
        make = partial(GaussianPixels, colours=colours, log_sigma_min=log_sigma_min)
        return GaussianPixels.channels(colours), make
    if colours not in (1, 3):
        raise SettingError(f"backbone.head: '{name}' takes images of 1 or 3 colours, not {colours}")
    return MixturePixels.channels(colours, components), partial(MixturePixels, colours=colours, levels=levels)
