"""The two spaces hold the same density, each with its own Jacobian, and the same f."""

import pytest
import torch
from oracles import SIGMAS, TiltPrior, grid, mild_prior

from jebm.errors import JebmError
from jebm.models.hierarchy import flatten
from jebm.sampling.langevin import Langevin
from jebm.sampling.partition import resample
from jebm.sampling.run import run_chain
from jebm.sampling.spaces import Latent, Whitened
from jebm.streams import generator


def pair():
    hierarchy, prior = mild_prior()
    return Whitened(hierarchy, prior), Latent(hierarchy, prior)


def points(count=20):
    eps = torch.randn(count, 2, generator=generator("points"))
    hierarchy, _ = mild_prior()
    return eps, flatten(hierarchy.top_down_flat(eps).z)


def test_densities_differ_by_the_jacobian_of_the_transform():
    whitened, latent = pair()
    eps, z = points()
    hierarchy, _ = mild_prior()
    jacobian = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda e: flatten(hierarchy.top_down_flat(e.unsqueeze(0)).z)[0], row)
            for row in eps
        ]
    )
    in_eps = whitened.target().log_prob_and_gradient(eps)[0]
    in_z = latent.target().log_prob_and_gradient(z)[0]
    log_det = torch.linalg.det(jacobian).abs().log()
    torch.testing.assert_close(in_eps - in_z, log_det, rtol=0, atol=1e-4)
    assert log_det.std() > 0.01  # so that a constant would not do


def test_f_and_the_images_are_the_same_in_both_spaces():
    whitened, latent = pair()
    eps, z = points()
    torch.testing.assert_close(whitened.tilt(eps), latent.tilt(z), rtol=0, atol=1e-5)
    assert whitened.tilt(eps).std() > 0.1
    for ours, theirs in zip(whitened.top_down(eps).z, latent.top_down(z).z, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_generator_start_is_one_population_seen_from_two_spaces():
    whitened, latent = pair()
    eps = whitened.start("generator", 30, generator("start"))
    z = latent.start("generator", 30, generator("start"))
    torch.testing.assert_close(z, flatten(whitened.top_down(eps).z))
    assert torch.equal(latent.start("normal", 30, generator("start")), eps)
    assert torch.equal(whitened.start("normal", 30, generator("start")), eps)


def test_adjusted_chain_in_z_keeps_the_density_of_whitened_space():
    """From nearly exact draws, 40 steps in z: mean f and E[ε²] seen through z against quadrature, 5 standard errors."""
    _, latent = pair()
    hierarchy, prior = mild_prior()
    quadrature = grid()
    eps, _ = resample(prior, 2, 2000, 100_000, generator("exact"))
    z = flatten(hierarchy.top_down_flat(eps).z)
    result = run_chain(Langevin(step_size=0.15, adjusted=True), latent.target(), z, 40, generator("z chain"))
    assert 0.3 < result.acceptance < 0.99
    assert not torch.allclose(result.x, z)

    def statistics(top, f):
        return torch.stack([f, top.z[0][:, 0], top.z[1][:, 0], top.z[0][:, 0] ** 2, top.z[1][:, 0] ** 2], 1).double()

    on_grid = statistics(hierarchy.top_down_flat(quadrature.points), prior.tilt(quadrature.points))
    exact = quadrature.mean(prior.log_prob(quadrature.points), on_grid)
    found = statistics(latent.top_down(result.x), latent.tilt(result.x))
    assert ((found.mean(0) - exact).abs() / (found.std(0) / len(found) ** 0.5)).max() < SIGMAS


def test_prior_known_in_whitened_space_alone_is_refused_in_z():
    hierarchy, _ = mild_prior()
    with pytest.raises(JebmError, match="TiltPrior is known in whitened space only"):
        Latent(hierarchy, TiltPrior(lambda x: x[:, 0]))
