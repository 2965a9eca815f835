"""Models whose answers are known in closed form, and the statistics that tests compare with.

A tolerance is a number of standard errors of the quantity compared, five where nothing else is said: with fixed seeds
a test passes or fails for good, and a correct sampler passes at all but one seed in a million.
"""

import math
from typing import NamedTuple

import torch
from pydantic import TypeAdapter
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from jebm.config.components import schema
from jebm.models.backbones.base import Hierarchy, Posterior, TopDown, flatten, normal_log_prob, split
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.models.priors.base import Prior
from jebm.models.priors.ebm import JointPrior
from jebm.runtime.random import make_rng

SIGMAS = 5


def spec(kind: str, **block):
    """A component's block as params.yaml would give it."""
    return TypeAdapter(schema(kind)).validate_python(block)


class Gaussian(NamedTuple):
    """A tilt of N(0, I) that is Gaussian: its moments and log Z, float64."""

    mean: torch.Tensor
    cov: torch.Tensor
    log_z: float


class LinearHierarchy(Hierarchy):
    """z_L = ε_L, z_i = W_i z_{i+1} + c_i + s_i ε_i, p(x|z) = N(G z_1, sigma²), and the exact q(ε|x).

    ``widen`` multiplies the standard deviations of q, ``shift`` is added to its means: 1 and 0 are exact.
    """

    def __init__(self, dims=(3, 2), pixels=4, sigma=0.7, seed=0, widen=1.0, shift=0.0):
        super().__init__()
        rng = make_rng("linear hierarchy", seed)
        self.latent_shapes, self.image_shape = tuple((d,) for d in dims), (1, 1, pixels)
        self.sigma, self.widen, self.shift = sigma, widen, shift
        self.maps = [torch.randn(dims[i], dims[i + 1], generator=rng) * 0.6 for i in range(len(dims) - 1)]
        self.offsets = [torch.randn(d, generator=rng) * 0.5 for d in dims[:-1]]
        self.scales = [0.5 + torch.rand(d, generator=rng) for d in dims[:-1]]
        self.decoder = torch.randn(pixels, dims[0], generator=rng) * 0.5

    def initialise(self, rng):
        """Nothing to set."""

    def top_down(self, eps):
        z = [eps[-1]]
        for weight, offset, scale, noise in zip(
            reversed(self.maps), reversed(self.offsets), reversed(self.scales), reversed(eps[:-1]), strict=True
        ):
            z.insert(0, z[0] @ weight.to(noise).T + offset.to(noise) + scale.to(noise) * noise)
        return TopDown(tuple(z), tuple(z))

    def condition(self, z):
        terms = []
        for i, (weight, offset, scale) in enumerate(zip(self.maps, self.offsets, self.scales, strict=True)):
            weight, offset, scale = weight.to(z[i]), offset.to(z[i]), scale.to(z[i])
            terms.append(normal_log_prob(z[i], z[i + 1] @ weight.T + offset, scale.log().expand_as(z[i])))
        terms.append(normal_log_prob(z[-1], torch.zeros_like(z[-1]), torch.zeros_like(z[-1])))
        return TopDown(z, z), torch.stack(terms, 1)

    def decode(self, top):
        mean = (top.z[0] @ self.decoder.to(top.z[0]).T).reshape(-1, *self.image_shape)
        return Independent(Normal(mean, self.sigma), 3)

    def affine(self):
        """M and m of z = M ε + m, all layers side by side, float64."""
        zero = torch.zeros(1, self.dimensions, dtype=torch.float64)
        offset = flatten(self.top_down_flat(zero).z)[0]
        units = torch.eye(self.dimensions, dtype=torch.float64)
        return (flatten(self.top_down_flat(units).z) - offset).T, offset

    def joint(self):
        """H, h of E[x | ε] = H ε + h, float64."""
        matrix, offset = self.affine()
        rows = slice(0, self.layer_dims[0])
        decoder = self.decoder.double()
        return decoder @ matrix[rows], decoder @ offset[rows]

    def posterior_moments(self, x):
        """Mean (batch, dimensions) and covariance of the exact p(ε | x) without a tilt, float64."""
        matrix, offset = self.joint()
        cov = torch.linalg.inv(torch.eye(self.dimensions).double() + matrix.T @ matrix / self.sigma**2)
        return (x.flatten(1).double() - offset) @ matrix @ cov / self.sigma**2, cov

    def infer(self, x, rng):
        mean, cov = self.posterior_moments(x)
        order = torch.cat(torch.arange(self.dimensions).split(self.layer_dims)[::-1])
        mean, factor = mean[:, order] + self.shift, torch.linalg.cholesky(cov[order][:, order]) * self.widen
        noise = torch.randn(mean.shape, generator=rng, dtype=torch.float64)
        draw, log_q, kl, start = mean + noise @ factor.T, [], [], 0
        for dims in reversed(self.layer_dims):
            own, above = slice(start, start + dims), slice(0, start)
            centre = mean[:, own] + noise[:, above] @ factor[own, above].T
            layer = MultivariateNormal(centre, scale_tril=factor[own, own])
            standard = MultivariateNormal(torch.zeros(dims).double(), torch.eye(dims).double())
            log_q.insert(0, layer.log_prob(draw[:, own]))
            kl.insert(0, torch.distributions.kl_divergence(layer, standard))
            start += dims
        flat = torch.empty_like(draw)
        flat[:, order] = draw
        eps = split(flat.float(), self.latent_shapes)
        return Posterior(eps, self.top_down(eps), torch.stack(log_q, 1), torch.stack(kl, 1))

    def log_evidence(self, x, tilt: Gaussian | None = None):
        """The exact log p(x), (batch,), under N(0, I) or under a Gaussian tilt of it."""
        matrix, offset = self.joint()
        mean = tilt.mean if tilt else torch.zeros(self.dimensions).double()
        cov = tilt.cov if tilt else torch.eye(self.dimensions).double()
        noise = self.sigma**2 * torch.eye(len(offset)).double()
        return MultivariateNormal(matrix @ mean + offset, matrix @ cov @ matrix.T + noise).log_prob(x.flatten(1))


class QuadraticEnergy(nn.Module):
    """f(z) = −½ zᵀ A z + bᵀ z over all layers side by side; ``strength`` scales it."""

    def __init__(self, dimensions: int, seed=0, strength=1.0):
        super().__init__()
        rng = make_rng("quadratic energy", seed)
        root = torch.randn(dimensions, dimensions, generator=rng) * 0.5
        self.matrix = nn.Parameter(strength * root @ root.T)
        self.vector = nn.Parameter(strength * torch.randn(dimensions, generator=rng) * 0.5)

    def forward(self, top):
        flat = flatten(top.z)
        return -0.5 * ((flat @ self.matrix) * flat).sum(1) + flat @ self.vector


class TiltPrior(Prior):
    """A prior whose tilt is any function of flat ε."""

    def __init__(self, function):
        super().__init__(None)
        self.function = function

    def tilt(self, eps):
        return self.function(eps)


def joint_prior(hierarchy: Hierarchy, energy: nn.Module | None = None, **block) -> JointPrior:
    """The real joint prior on a hierarchy, with another energy in its place where one is given."""
    prior = JointPrior(hierarchy, energy=spec("energy", name="layerwise", **block))
    if energy is not None:
        prior.energy = energy
    return prior.requires_grad_(False)


def quadratic_prior(strength=1.0, **hierarchy) -> tuple[LinearHierarchy, JointPrior, Gaussian]:
    """A linear hierarchy under a quadratic energy, and the Gaussian that the tilted density is."""
    backbone = LinearHierarchy(**hierarchy)
    energy = QuadraticEnergy(backbone.dimensions, strength=strength)
    matrix, offset = backbone.affine()
    quadratic, linear = energy.matrix.detach().double(), energy.vector.detach().double()
    precision = torch.eye(backbone.dimensions).double() + matrix.T @ quadratic @ matrix
    slope = matrix.T @ (linear - quadratic @ offset)
    cov = torch.linalg.inv(precision)
    constant = linear @ offset - 0.5 * offset @ quadratic @ offset
    log_z = constant + 0.5 * slope @ cov @ slope - 0.5 * torch.logdet(precision)
    return backbone, joint_prior(backbone, energy), Gaussian(cov @ slope, cov, float(log_z))


def mild_prior() -> tuple[PerceptronHierarchy, JointPrior]:
    """A real two-layer chain of 1 + 1 dimensions under a real, mild, non-Gaussian energy."""
    hierarchy = PerceptronHierarchy((1, 2, 2), latent_dims=[1, 1], hidden=8, depth=1, mean_gain=1.5)
    hierarchy.initialise(make_rng("mild hierarchy"))
    prior = joint_prior(hierarchy, hidden=8, depth=1)
    rng = make_rng("mild energy")
    prior.energy.initialise(rng)
    for net in prior.energy.nets.values():
        net[0].weight.normal_(generator=rng)
        net[-1].weight.normal_(generator=rng).mul_(0.7)
    hierarchy.requires_grad_(False)
    return hierarchy, prior


class Quadrature(NamedTuple):
    """A square grid, its points (count, 2), and the area of a cell."""

    points: torch.Tensor
    area: float

    def log_integral(self, log_density: torch.Tensor) -> float:
        return float(torch.logsumexp(log_density.double(), 0)) + math.log(self.area)

    def mean(self, log_density: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """E[values], values (count, …), under the density normalised on the grid, float64."""
        return torch.tensordot(torch.softmax(log_density.double(), 0), values.double(), dims=1)


def grid(limit: float = 9.0, count: int = 361) -> Quadrature:
    """On a smooth density that vanishes before ``limit`` the sum converges faster than any power of the step."""
    axis = torch.linspace(-limit, limit, count)
    return Quadrature(torch.cartesian_prod(axis, axis), (2 * limit / (count - 1)) ** 2)


def worst_moment_error(draws: torch.Tensor, mean: torch.Tensor, cov: torch.Tensor) -> float:
    """The largest error of a mean, a variance or a covariance of independent draws, in its standard errors.

    The standard errors are those of the draws themselves, so no normality is assumed.
    """
    draws = draws.double()
    centred = draws - mean
    products = centred.unsqueeze(2) * centred.unsqueeze(1)
    z_mean = centred.mean(0) / (draws.std(0) / math.sqrt(len(draws)))
    z_cov = (products.mean(0) - cov) / (products.std(0) / math.sqrt(len(draws)))
    return float(torch.cat([z_mean.abs(), z_cov.abs().flatten()]).max())


def resampled_terms(prior: JointPrior, pool: int, *purpose: object) -> tuple[torch.Tensor, torch.Tensor]:
    """E[f_i] of each term under the prior by self-normalised importance sampling, and each draw's spread / √pool."""
    eps = torch.randn(pool, prior.hierarchy.dimensions, generator=make_rng("resampled terms", *purpose))
    with torch.no_grad():
        terms = prior.energy.terms(prior.hierarchy.top_down_flat(eps)).double()
    weights = torch.softmax(terms.sum(1), 0).unsqueeze(1)
    mean = (weights * terms).sum(0)
    return mean, ((weights * (terms - mean) ** 2).sum(0) / pool).sqrt()
