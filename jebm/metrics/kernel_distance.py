"""Kernel distance (the estimator of KID) between two sets of features, computed by clean-fid."""

import numpy as np
from cleanfid.fid import kernel_distance as clean_fid_kernel_distance


def kernel_distance(generated: np.ndarray, reference: np.ndarray, subsets: int, subset_size: int, seed: int) -> float:
    """Unbiased squared MMD with the kernel (xᵀy/d + 1)³, averaged over random subsets; may be negative; lower is
    better.

    clean-fid draws the subsets from NumPy's global random state, which is seeded here and restored afterwards.
    """
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        return float(clean_fid_kernel_distance(generated, reference, subsets, subset_size))
    finally:
        np.random.set_state(before)
