"""Flows of the posterior: z′ = z − shift(z) with an autoregressive shift, first in raster order, then in reverse.

The Jacobian is triangular with ones on its diagonal, so log q(z′) = log q(z).
"""

import torch
from torch import nn
from torch.nn.functional import elu

from jebm.models.backbones.nvae.convolutions import MaskedConvolution

HIDDEN = 6
"""Hidden channels of the shift per latent channel."""


class Shift(nn.Module):
    """z − shift(z) in one direction."""

    def __init__(self, latents: int, mirrored: bool):
        super().__init__()
        hidden = HIDDEN * latents
        self.first = MaskedConvolution(latents, hidden, 3, mirrored=mirrored, zero_diagonal=True, bias=False)
        self.spread = MaskedConvolution(hidden, hidden, 5, mirrored=mirrored, groups=hidden, bias=False)
        self.last = MaskedConvolution(hidden, latents, 1, mirrored=mirrored)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        # The activation is applied twice, as in the training of the published weights.
        return z - self.last(elu(elu(self.spread(elu(self.first(z))))))


class Flow(nn.Module):
    """A shift in raster order, followed by one in reverse order."""

    def __init__(self, latents: int):
        super().__init__()
        self.forwards, self.backwards = Shift(latents, mirrored=False), Shift(latents, mirrored=True)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.backwards(self.forwards(z))

    @torch.no_grad()
    def shrink(self) -> None:
        """Divide the shifts by ten, so that training starts near the identity."""
        for shift in (self.forwards, self.backwards):
            shift.last.log_gain -= torch.log(torch.tensor(10.0))
