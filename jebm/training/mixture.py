"""Fitting the mixture baseline: EM on draws of the aggregate posterior, its size chosen on the validation split."""

import numpy as np
import torch
from sklearn.mixture import GaussianMixture

from jebm.config.training import TrainPrior
from jebm.data.batches import Pixels, batches
from jebm.models.backbones.base import Hierarchy, flatten
from jebm.models.priors.mixture import MixturePrior
from jebm.runtime.progress import say
from jebm.training.run import Fitted, TrainingRun


@torch.no_grad()
def _posterior_draws(hierarchy: Hierarchy, pixels: Pixels, draws: int, rng: torch.Generator) -> np.ndarray:
    rows = [flatten(hierarchy.infer(x, rng).eps) for _ in range(draws) for x in batches(pixels, 2000)]
    return torch.cat(rows).double().cpu().numpy()


def fit(prior: MixturePrior, data: dict[str, Pixels], settings: TrainPrior, run: TrainingRun) -> Fitted:
    """Fit one mixture for each size and keep the best by mean log density of validation draws.

    The history has a row per size. Nothing is descended, so that the settings are not used.
    """
    train = _posterior_draws(prior.hierarchy, data["train"], prior.draws, run.rng)
    held_out = _posterior_draws(prior.hierarchy, data["validation"], prior.draws, run.rng)
    seed = int(torch.randint(2**31, (1,), generator=run.rng, device=run.rng.device))
    history, best = [], None
    for components in prior.components:
        mixture = GaussianMixture(
            components, covariance_type="full", reg_covar=1e-4, max_iter=500, random_state=seed
        ).fit(train)
        row = {
            "components": components,
            "train_log_prob": mixture.score(train),
            "validation_log_prob": mixture.score(held_out),
            "converged": int(mixture.converged_),
        }
        history.append(row)
        say(f"{run.title}: " + " ".join(f"{key}={value:.4g}" for key, value in row.items()))
        if best is None or row["validation_log_prob"] > best[0]:
            best = (row["validation_log_prob"], mixture)
    chosen = best[1]
    prior.set(
        torch.from_numpy(np.log(chosen.weights_)).float(),
        torch.from_numpy(chosen.means_).float(),
        torch.from_numpy(np.linalg.cholesky(chosen.covariances_)).float(),
    )
    return Fitted(history, {"components": len(chosen.weights_), "selected_by": "validation log density"})
