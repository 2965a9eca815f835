"""A linear chain of layers of one dimension each, and energies on it that keep every conditional Gaussian."""

import torch
from torch import nn

from jebm.models.backbones.base import Hierarchy, Posterior, TopDown
from jebm.models.energies.base import LayerEnergy

WEIGHTS, OFFSETS, SCALES = (0.8, -0.6), (0.3, -0.2), (0.7, 1.2)
"""Of z_i = w z_{i+1} + c + s ε_i, bottom first; the top layer is z_L = ε_L."""


class Ladder(Hierarchy):
    """Its q(ε | x) ignores x: ``draw(count, rng)`` gives flat ε, (count, layers)."""

    def __init__(self, layers: int, draw=None):
        super().__init__()
        self.latent_shapes, self.image_shape, self.draw = ((1,),) * layers, (1, 1, 1), draw

    def descend(self, above, eps):
        if not above.z:
            return TopDown((eps,), (eps,))
        i = self.layers - len(above.z) - 1
        z = (WEIGHTS[i] * above.z[0] + OFFSETS[i] + SCALES[i] * eps, *above.z)
        return TopDown(z, z)

    def infer(self, x, rng):
        eps = self.draw(len(x), rng).unsqueeze(2).unbind(1)
        none = torch.zeros(len(x), self.layers)
        return Posterior(eps, self.top_down(eps), none, none)

    def condition(self, z):
        raise NotImplementedError

    def decode(self, top):
        raise NotImplementedError

    def initialise(self, rng):
        """Nothing to set."""


class Quadratic(LayerEnergy):
    """f_i = −½ a z_i² + b z_i + c z_i z_{i+1} + d, without the cross term at the top; starts at 0."""

    def __init__(self, layers: int, coefficients=None):
        super().__init__()
        start = torch.zeros(layers, 4) if coefficients is None else torch.tensor(coefficients)
        self.nets = nn.ModuleDict({str(i + 1): nn.Linear(4, 1, bias=False) for i in range(layers)})
        for net, row in zip(self.nets.values(), start, strict=True):
            net.weight.data[0] = row

    def initialise(self, rng):
        """Starts from what it was built with."""

    def coefficients(self):
        return torch.cat([net.weight.detach() for net in self.nets.values()])

    def term(self, number, top):
        own = top.z[0]
        above = top.z[1] if len(top.z) > 1 else torch.zeros_like(own)
        return self.nets[str(number)](torch.cat([-0.5 * own**2, own, own * above, torch.ones_like(own)], 1)).squeeze(1)
