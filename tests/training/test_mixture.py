"""EM of the mixture prior, called again and again for the sake of its progress, is EM."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from jebm.training.mixture import expectation_maximisation


@pytest.fixture
def draws(monkeypatch):
    monkeypatch.setattr("jebm.training.mixture.ITERATIONS_PER_CALL", 3)
    return np.random.default_rng(0).normal(size=(2000, 3))


def test_several_calls_give_the_mixture_of_one_call(draws):
    ours = expectation_maximisation(draws, 8, seed=3, title="test")
    theirs = GaussianMixture(8, covariance_type="full", reg_covar=1e-4, max_iter=500, random_state=3).fit(draws)
    assert theirs.n_iter_ > 6, "several calls are needed"
    assert theirs.converged_
    assert ours.converged_
    for name in ("weights_", "means_", "covariances_"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


def test_progress_is_logged_and_the_last_iteration_ends_it(draws, monkeypatch, capsys):
    monkeypatch.setattr("jebm.training.mixture.MOST_ITERATIONS", 6)
    monkeypatch.setattr("jebm.runtime.progress.Progress.__init__.__defaults__", (0.0,))
    fitted = expectation_maximisation(draws, 8, seed=3, title="prior, 8 components")
    assert not fitted.converged_
    assert "prior, 8 components: iteration 3/6, " in capsys.readouterr().err
