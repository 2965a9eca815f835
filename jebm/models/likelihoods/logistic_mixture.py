"""A discretised mixture of logistics (PixelCNN++, Salimans et al., 2017): a probability mass on each level of a pixel.

Level k of L has the value v_k = −1 + 2k/(L − 1). A logistic variable is rounded to the nearest level; the outermost
levels get the mass of the tails. The channels of a pixel share the component of the mixture. Within a component, the
mean of green depends linearly on red, and the mean of blue on red and green.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch.nn.functional import logsigmoid

from jebm.config.types import Count, GreyLevels
from jebm.errors import SettingError
from jebm.models.likelihoods.base import Likelihood, PixelDistribution

LOG_SCALE_LIMIT = 7.0
"""Log scales are clamped to ± this value; pixels are in [−1, 1]. The lower limit is that of PixelCNN++, a ninth of
the width of one of 256 levels; above the upper limit all inner levels have the same negligible mass."""


class LogisticPixels(PixelDistribution):
    """The distribution over images for given parameters of the mixture; K is the number of components.

    Args:
        logits: logits of the components, (batch, K, height, width).
        means, log_scales: (batch, K, channels, height, width).
        coupling: coefficients of earlier channels in the mean of a channel, (batch, K, pairs, height, width), for the
            pairs (0, 1), (0, 2), (1, 2) of an earlier and a later channel.
        levels: number of levels of a pixel.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        means: torch.Tensor,
        log_scales: torch.Tensor,
        coupling: torch.Tensor,
        levels: int,
    ):
        self.logits, self.means, self.log_scales = logits, means, log_scales
        self.coupling, self.levels = coupling, levels
        self.pairs = list(combinations(range(means.shape[2]), 2))

    @property
    def half_width(self) -> float:
        """Half the distance between two levels."""
        return 1.0 / (self.levels - 1)

    def _coupled_mean(self, channel: int, earlier: list[torch.Tensor]) -> torch.Tensor:
        """The location of the logistics of a channel, (batch, K, height, width), given the earlier channels, which must
        broadcast to that shape."""
        mean = self.means[:, :, channel]
        for source, pixels in enumerate(earlier):
            mean = mean + self.coupling[:, :, self.pairs.index((source, channel))] * pixels
        return mean

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """The log probability mass, (batch,), nats, of images whose pixels are levels."""
        total = torch.log_softmax(self.logits, 1)
        for channel in range(self.means.shape[2]):
            earlier = [x[:, None, source] for source in range(channel)]
            mean = self._coupled_mean(channel, earlier)
            total = total + self._log_mass(x[:, None, channel], mean, self.log_scales[:, :, channel])
        return torch.logsumexp(total, 1).flatten(1).sum(1)

    def _log_mass(self, x: torch.Tensor, mean: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        """log(S(a) − S(b)) = log S(a) + log S(−b) + log(1 − exp(b − a)), with S the sigmoid and a, b the upper and
        lower edge of the level in units of the scale. This form avoids cancellation."""
        inverse = torch.exp(-log_scale)
        upper = (x - mean + self.half_width) * inverse
        lower = (x - mean - self.half_width) * inverse
        inside = torch.log(-torch.expm1(-2 * self.half_width * inverse))
        lowest, highest = x < -1 + self.half_width, x > 1 - self.half_width
        between = ~(lowest | highest)
        return (
            torch.where(highest, 0.0, logsigmoid(upper))
            + torch.where(lowest, 0.0, logsigmoid(-lower))
            + torch.where(between, inside, 0.0)
        )

    @property
    def mean(self) -> torch.Tensor:
        """E[x], exact for grey images and for red.

        For green and blue it is approximate: within a component the earlier channels are replaced by their means. This
        would be exact without rounding and without the ends of the range.
        """
        weights, expected = torch.softmax(self.logits, 1), []
        for channel in range(self.means.shape[2]):
            mean = self._coupled_mean(channel, expected)
            expected.append(self._rounded_mean(mean, self.log_scales[:, :, channel]))
        return torch.stack([(weights * pixels).sum(1) for pixels in expected], 1).clamp(-1.0, 1.0)

    def _rounded_mean(self, mean: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        """The mean of a rounded logistic: −1 plus, for each threshold between levels, their distance times P(above)."""
        inverse, above = torch.exp(-log_scale), torch.zeros_like(mean)
        for level in range(1, self.levels):
            threshold = -1 + (2 * level - 1) * self.half_width
            above = above + torch.sigmoid((mean - threshold) * inverse)
        return -1 + 2 * self.half_width * above

    def sample(self, rng: torch.Generator) -> torch.Tensor:
        batch, _, channels, height, width = self.means.shape
        uniform = _open_uniform(self.logits.shape, rng, self.logits)
        chosen = (self.logits - torch.log(-torch.log(uniform))).argmax(1, keepdim=True)  # the Gumbel-max trick
        pixels: list[torch.Tensor] = []
        for channel in range(channels):
            mean = self._coupled_mean(channel, [p.unsqueeze(1) for p in pixels]).gather(1, chosen).squeeze(1)
            scale = torch.exp(self.log_scales[:, :, channel].gather(1, chosen).squeeze(1))
            uniform = _open_uniform((batch, height, width), rng, mean)
            drawn = (mean + scale * torch.logit(uniform)).clamp(-1.0, 1.0)
            pixels.append(((drawn + 1) / (2 * self.half_width)).round() * (2 * self.half_width) - 1)
        return torch.stack(pixels, 1)


def _open_uniform(shape: tuple[int, ...], rng: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """Uniform in the open interval (0, 1)."""
    drawn = torch.rand(shape, generator=rng, device=like.device, dtype=like.dtype)
    return drawn.clamp(torch.finfo(like.dtype).tiny, 1 - torch.finfo(like.dtype).eps / 2)


class LogisticMixture(Likelihood):
    """p(x | z) as a discretised mixture of logistics for each pixel of a grey or RGB image.

    The couplings between channels are in (−1, 1).

    Args:
        levels: number of integer levels of the data.
        components: number of components of each mixture.

    Raises:
        SettingError: the images are neither grey nor RGB.
    """

    def __init__(self, image_shape: tuple[int, ...], *, levels: GreyLevels, components: Count = 10):
        super().__init__()
        if len(image_shape) != 3 or image_shape[0] not in (1, 3):
            raise SettingError(
                f"backbone.likelihood.name: 'logistic-mixture' needs grey or RGB images, not data of "
                f"shape {list(image_shape)}; use 'gaussian'"
            )
        self.image_shape, self.levels, self.components = tuple(image_shape), levels, components
        colours = image_shape[0]
        self.parts = [1, colours, colours, colours * (colours - 1) // 2]
        self.channels = components * sum(self.parts)

    def forward(self, parameters: torch.Tensor) -> LogisticPixels:
        by_component = parameters.unflatten(1, (self.components, sum(self.parts)))
        logits, means, log_scales, coupling = by_component.split(self.parts, 2)
        log_scales = log_scales.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)
        return LogisticPixels(logits.squeeze(2), means, log_scales, torch.tanh(coupling), self.levels)
