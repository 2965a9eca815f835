"""Whether chains agree with one another."""

import torch

CEILING = 10.0
"""Stands for itself and all above: chains that never move have an infinite R-hat."""


def split_r_hat(draws: torch.Tensor) -> torch.Tensor:
    """R-hat of (steps, …, chains), shape (…,): 1 where halves of chains are alike (Gelman et al., 2013, section 11.4).

    Every chain is cut in two, so that one that drifts does not agree with itself. Chains that started far apart and
    have not met, or that sit in different modes, make it large.
    """
    half = len(draws) // 2
    halves = torch.cat([draws[:half], draws[half : 2 * half]], -1).double()
    within = halves.var(0).mean(-1)
    between = halves.mean(0).var(-1)
    return torch.nan_to_num(((half - 1) / half + between / within).sqrt(), nan=CEILING).clamp(max=CEILING)
