"""A linear hierarchy with trainable parameters under a quadratic energy: evidence, bound and posterior in closed form.

All closed forms are differentiable functions of the parameters, in float64, so that autograd through them gives the
exact gradients that estimators are compared with.
"""

import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from jebm.models.backbones.base import (
    Hierarchy,
    Posterior,
    TopDown,
    flatten,
    kl_to_standard_normal,
    normal_log_prob,
    split,
)
from jebm.models.energies.base import Energy
from jebm.models.priors.ebm import JointPrior
from jebm.runtime.random import make_rng

SHAPES = (2, 1)


class MeanField(nn.Module):
    """q(ε | x) = N(A x + c, diag exp(r)²)."""

    def __init__(self, dimensions: int, pixels: int, rng: torch.Generator):
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(dimensions, pixels, generator=rng))
        self.offset = nn.Parameter(0.3 * torch.randn(dimensions, generator=rng))
        self.log_sd = nn.Parameter(0.2 * torch.randn(dimensions, generator=rng) - 0.5)


class LinearGaussian(Hierarchy):
    """z_L = ε_L, z_i = W_i z_{i+1} + c_i + exp(r_i) ε_i, p(x|z) = N(G z_1 + g, sigma²).

    ``infer`` is the mean-field network, or, with ``exact``, the exact posterior of the prior that was last given to
    :meth:`know`, its standard deviations times ``widen`` and its means plus ``shift``.
    """

    def __init__(self, dims=SHAPES, pixels=3, sigma=0.7, seed=0, exact=False, widen=1.0, shift=0.0):
        super().__init__()
        rng = make_rng("trainable linear hierarchy", seed)

        def normal(*shape, scale=0.6):
            return nn.Parameter(scale * torch.randn(*shape, generator=rng))

        self.latent_shapes, self.image_shape, self.sigma = tuple((d,) for d in dims), (1, 1, pixels), sigma
        self.maps = nn.ParameterList(normal(dims[i], dims[i + 1]) for i in range(len(dims) - 1))
        self.offsets = nn.ParameterList(normal(d) for d in dims[:-1])
        self.log_scales = nn.ParameterList(normal(d, scale=0.3) for d in dims[:-1])
        self.weight, self.bias = normal(pixels, dims[0]), normal(pixels)
        self.network = MeanField(sum(dims), pixels, rng)
        self.exact, self.widen, self.shift, self.prior = exact, widen, shift, None

    def initialise(self, rng):
        """Set by the constructor."""

    def inference_modules(self):
        return [self.network]

    def know(self, prior: JointPrior):
        self.prior = [prior]
        return self

    def top_down(self, eps):
        z = [eps[-1]]
        for i in reversed(range(self.layers - 1)):
            weight, offset, log_scale = (part[i].to(eps[i]) for part in (self.maps, self.offsets, self.log_scales))
            z.insert(0, z[0] @ weight.T + offset + log_scale.exp() * eps[i])
        return TopDown(tuple(z), tuple(z))

    def whiten(self, z):
        eps = [z[-1]]
        for i in reversed(range(self.layers - 1)):
            mean = z[i + 1] @ self.maps[i].T + self.offsets[i]
            eps.insert(0, (z[i] - mean) * torch.exp(-self.log_scales[i]))
        return tuple(eps)

    def condition(self, z):
        terms = [normal_log_prob(z[-1], torch.zeros_like(z[-1]), torch.zeros_like(z[-1]))]
        for i in reversed(range(self.layers - 1)):
            mean = z[i + 1] @ self.maps[i].T + self.offsets[i]
            terms.insert(0, normal_log_prob(z[i], mean, self.log_scales[i].expand_as(z[i])))
        return TopDown(z, z), torch.stack(terms, 1)

    def decode(self, top):
        mean = (top.z[0] @ self.weight.T + self.bias).reshape(-1, *self.image_shape)
        return Independent(Normal(mean, self.sigma), 3)

    def infer(self, x, rng):
        if self.exact:
            return self._infer_exactly(x, rng)
        net = self.network
        mean = split(x.flatten(1) @ net.weight.T + net.offset, self.latent_shapes)
        log_sd = split(net.log_sd.expand(len(x), -1), self.latent_shapes)
        eps = tuple(m + s.exp() * torch.randn(m.shape, generator=rng) for m, s in zip(mean, log_sd, strict=True))
        log_q = [normal_log_prob(e, m, s) for e, m, s in zip(eps, mean, log_sd, strict=True)]
        kl = [kl_to_standard_normal(m, s) for m, s in zip(mean, log_sd, strict=True)]
        return Posterior(eps, self.top_down(eps), torch.stack(log_q, 1), torch.stack(kl, 1))

    def _infer_exactly(self, x, rng):
        """Only Σ_i log q is right layer by layer; it is written under the bottom layer."""
        mean, cov = exact_posterior(self.prior[0], x)
        q = MultivariateNormal(mean + self.shift, self.widen**2 * cov)
        noise = torch.randn(mean.shape, generator=rng, dtype=torch.float64)
        draw = q.loc + noise @ q.scale_tril[0].T
        log_q = torch.zeros(len(x), self.layers, dtype=torch.float64)
        log_q[:, 0] = q.log_prob(draw)
        eps = split(draw.float(), self.latent_shapes)
        kl = torch.zeros(len(x), self.layers)
        return Posterior(eps, self.top_down(eps), log_q.float(), kl)


class Quadratic(Energy):
    """f(z) = −½ zᵀ A Aᵀ z + bᵀ z over all layers side by side."""

    def __init__(self, dimensions: int, seed=0, strength=0.5):
        super().__init__()
        rng = make_rng("trainable quadratic energy", seed)
        self.root = nn.Parameter(strength * torch.randn(dimensions, dimensions, generator=rng))
        self.vector = nn.Parameter(strength * torch.randn(dimensions, generator=rng))

    def terms(self, top):
        flat = flatten(top.z)
        return (-0.5 * (flat @ self.root).square().sum(1) + flat @ self.vector).unsqueeze(1)


def linear_model(**options) -> tuple[LinearGaussian, JointPrior]:
    """A hierarchy and the real joint prior on it, with a quadratic energy in the place of its own."""
    from oracles import spec

    hierarchy = LinearGaussian(**options)
    prior = JointPrior(hierarchy, energy=spec("energy", name="layerwise"))
    prior.energy = Quadratic(hierarchy.dimensions)
    hierarchy.know(prior)
    return hierarchy, prior


def affine(hierarchy):
    """M, m of z = M ε + m and H, h of E[x | ε] = H ε + h, float64, differentiable."""
    size = hierarchy.dimensions
    zero, units = torch.zeros(1, size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)
    offset = flatten(hierarchy.top_down_flat(zero).z)[0]
    matrix = (flatten(hierarchy.top_down_flat(units).z) - offset).T
    rows = slice(0, hierarchy.layer_dims[0])
    weight, bias = hierarchy.weight.double(), hierarchy.bias.double()
    return matrix, offset, weight @ matrix[rows], weight @ offset[rows] + bias


def tilted_prior(prior: JointPrior):
    """Mean and precision of the Gaussian p(ε) ∝ exp(f(T(ε))) N(ε; 0, I), and log Z; float64."""
    matrix, offset, *_ = affine(prior.hierarchy)
    root, vector = prior.energy.root.double(), prior.energy.vector.double()
    quadratic = root @ root.T
    precision = torch.eye(len(vector)).double() + matrix.T @ quadratic @ matrix
    slope = matrix.T @ (vector - quadratic @ offset)
    mean = torch.linalg.solve(precision, slope)
    constant = vector @ offset - 0.5 * offset @ quadratic @ offset
    return mean, precision, constant + 0.5 * slope @ mean - 0.5 * torch.logdet(precision)


def log_evidence(prior: JointPrior, x: torch.Tensor) -> torch.Tensor:
    """log p(x) under the joint prior, (batch,), nats."""
    mean, precision, _ = tilted_prior(prior)
    _, _, matrix, offset = affine(prior.hierarchy)
    noise = prior.hierarchy.sigma**2 * torch.eye(len(offset)).double()
    cov = matrix @ torch.linalg.inv(precision) @ matrix.T + noise
    return MultivariateNormal(matrix @ mean + offset, cov).log_prob(x.flatten(1).double())


def exact_posterior(prior: JointPrior, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (batch, dimensions) and covariance of p(ε | x) under the joint prior, float64."""
    mean, precision, _ = tilted_prior(prior)
    _, _, matrix, offset = affine(prior.hierarchy)
    variance = prior.hierarchy.sigma**2
    cov = torch.linalg.inv(precision + matrix.T @ matrix / variance)
    slope = precision @ mean + (x.flatten(1).double() - offset) @ matrix / variance
    return (slope @ cov).detach(), cov.detach()


def evidence_bound(prior: JointPrior, x: torch.Tensor) -> torch.Tensor:
    """log p(x) − KL(q(ε | x) ‖ p(ε | x)) of the mean-field network, (batch,), differentiable in all parameters."""
    mean, precision, _ = tilted_prior(prior)
    _, _, matrix, offset = affine(prior.hierarchy)
    variance, net = prior.hierarchy.sigma**2, prior.hierarchy.network
    flat = x.flatten(1).double()
    cov = torch.linalg.inv(precision + matrix.T @ matrix / variance)
    exact = MultivariateNormal((precision @ mean + (flat - offset) @ matrix / variance) @ cov, cov)
    centre = flat @ net.weight.double().T + net.offset.double()
    q = MultivariateNormal(centre, scale_tril=torch.diag(net.log_sd.double().exp()))
    return log_evidence(prior, x) - kl_divergence(q, exact)
