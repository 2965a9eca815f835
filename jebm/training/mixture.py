"""Fitting the Gaussian-mixture prior: EM on draws from the aggregate posterior; the number of components is chosen on
the validation split."""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from jebm.config.training import TrainPrior
from jebm.data.batches import Pixels
from jebm.errors import SettingError
from jebm.models.priors.mixture import MixturePrior
from jebm.runtime.progress import Progress, log
from jebm.training.aggregate_posterior import posterior_draws
from jebm.training.run import TrainingResult, TrainingRun

MOST_ITERATIONS = 500
ITERATIONS_PER_CALL = 20


def expectation_maximisation(draws: np.ndarray, components: int, seed: int, title: str) -> GaussianMixture:
    """Fit a mixture with full covariances to draws (n, d), and log the progress.

    EM goes on from call to call, so that the progress can be logged between them; the result is that of one call.
    The remaining time in the log is an upper limit, since EM mostly converges before the last iteration.
    """
    mixture = GaussianMixture(
        components, reg_covar=1e-4, max_iter=ITERATIONS_PER_CALL, random_state=seed, warm_start=True
    )
    progress = Progress(title)
    progress("iteration", 0, MOST_ITERATIONS)  # so that the first call counts in full for the remaining time
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the calls before the last one have not converged
        for done in range(ITERATIONS_PER_CALL, MOST_ITERATIONS + 1, ITERATIONS_PER_CALL):
            if mixture.fit(draws).converged_:
                break
            progress("iteration", done, MOST_ITERATIONS)
    return mixture


def fit(prior: MixturePrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> TrainingResult:
    """Fit one mixture for each number of components, and keep the one with the highest mean log density of validation
    draws.

    The history has one row per number of components. There is no gradient descent, so ``settings`` are not used.

    Raises:
        SettingError: there are more components than posterior draws.
    """
    train, held_out = (
        posterior_draws(prior.hierarchy, data[split], prior.draws, run.rng, images).double().numpy()
        for split, images in (("train", prior.images), ("validation", None))
    )
    if len(train) < max(prior.components):
        raise SettingError(
            f"components: is {max(prior.components)}, but {run.title} has {len(train)} posterior draws to fit a "
            "mixture to; raise 'images' or 'draws' of the mixture, or lower it"
        )
    seed = int(torch.randint(2**31, (1,), generator=run.rng, device=run.rng.device))
    history, best = [], None
    for components in prior.components:
        mixture = expectation_maximisation(train, components, seed, f"{run.title}, {components} components")
        row = {
            "components": components,
            "train_log_prob": mixture.score(train),
            "validation_log_prob": mixture.score(held_out),
            "converged": int(mixture.converged_),
        }
        history.append(row)
        log(f"{run.title}: " + " ".join(f"{key}={value:.4g}" for key, value in row.items()))
        if best is None or row["validation_log_prob"] > best[0]:
            best = (row["validation_log_prob"], mixture)
    chosen = best[1]
    prior.set(
        torch.from_numpy(np.log(chosen.weights_)).float(),
        torch.from_numpy(chosen.means_).float(),
        torch.from_numpy(np.linalg.cholesky(chosen.covariances_)).float(),
    )
    return TrainingResult(history, {"components": len(chosen.weights_), "selected_by": "validation log density"})
