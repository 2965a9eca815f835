"""Kernel distance (the estimator behind KID) between two sets of features, by clean-fid's own code."""

import numpy as np
from cleanfid.fid import kernel_distance as clean_fid_kernel_distance


def kernel_distance(generated: np.ndarray, reference: np.ndarray, subsets: int, subset_size: int, seed: int) -> float:
    """Unbiased squared MMD with the kernel (xᵀy/d + 1)³, a mean over random subsets; may be below 0; lower is better.

    clean-fid draws the subsets from NumPy's global stream, which is seeded here and put back.
    """
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        return float(clean_fid_kernel_distance(generated, reference, subsets, subset_size))
    finally:
        np.random.set_state(before)
