"""Fréchet distance between two sets of features, computed by clean-fid."""

import numpy as np
from cleanfid.fid import frechet_distance

from jebm.errors import JebmError


def frechet(generated: np.ndarray, reference: np.ndarray) -> float:
    """|μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) of features (count, dimensions); lower is better (Heusel et al., 2017).

    Raises:
        JebmError: there are too few images for a covariance, or a feature is not finite.
    """
    for features in (generated, reference):
        if not np.isfinite(features).all():
            raise JebmError("Fréchet distance: some features are not finite")
        if len(features) <= features.shape[1]:
            raise JebmError(
                f"Fréchet distance: {len(features)} images are too few for a covariance of {features.shape[1]} features"
            )
    moments = [(f.mean(0), np.cov(f, rowvar=False)) for f in (generated, reference)]
    return float(frechet_distance(*moments[0], *moments[1]))
