"""Neal's funnel as a hierarchy of two layers: z_2 ~ N(0, 1), z_1 | z_2 ~ N(0, e^{2 z_2})."""

import torch

from jebm.models.backbones.base import Hierarchy, TopDown, normal_log_prob


class Funnel(Hierarchy):
    """Counting the Jacobian of T, as the biased density does, multiplies that of ε_2 by exp(−dims · ε_2): its mean
    goes to −dims, while its variance, and all of ε_1, stay standard normal."""

    def __init__(self, dims: int = 1):
        super().__init__()
        self.latent_shapes, self.image_shape = ((dims,), (1,)), (1, 1, 1)

    def initialise(self, rng):
        """Nothing to set."""

    def descend(self, above, eps):
        z = (torch.exp(above.z[0]) * eps, *above.z) if above.z else (eps,)
        return TopDown(z, z)

    def condition(self, z):
        terms = [normal_log_prob(z[0], torch.zeros_like(z[0]), z[1].expand_as(z[0]))]
        terms.append(normal_log_prob(z[1], torch.zeros_like(z[1]), torch.zeros_like(z[1])))
        return TopDown(z, z), torch.stack(terms, 1)

    def decode(self, top):
        raise NotImplementedError

    def infer(self, x, rng):
        raise NotImplementedError
