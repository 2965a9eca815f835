"""The local-global kernel: moves among independent proposals, and Langevin steps in between.

The global move is iterated sampling-importance-resampling: the next state is chosen among the present one and several
independent draws of the prior's proposal by their importance weights, which leaves the density exactly invariant
(Andrieu, Lee and Vihola, "Uniform ergodicity of the iterated conditional SMC and geometric ergodicity of particle Gibbs
samplers", 2018; with local moves: Samsonov et al., "Local-global MCMC kernels", NeurIPS 2022, arXiv 2111.02702).
"""

from __future__ import annotations

import torch

from jebm.config.types import Annotated, Count, Field, Natural, Positive
from jebm.errors import SettingError
from jebm.sampling.pcnl import CrankNicolsonLangevin
from jebm.sampling.proposal import Proposal
from jebm.sampling.target import State, Target


class LocalGlobal(CrankNicolsonLangevin):
    """One step is a global move among draws of the proposal, then adjusted Crank–Nicolson Langevin steps.

    Args:
        candidates: number of draws of the proposal for each chain and step. Each costs one value of the density.
        local_steps: number of Langevin steps after the move. Each costs one gradient.
        step_size: step size of these, a standard deviation below 1.
    """

    adjusted = True

    def __init__(
        self, *, candidates: Count = 8, local_steps: Natural = 2, step_size: Annotated[Positive, Field(lt=1)] = 0.35
    ):
        super().__init__(step_size=step_size, adjusted=True)
        self.candidates, self.local_steps = candidates, local_steps

    def check(self, target: Target) -> None:
        super().check(target)
        if target.prior is None:
            raise SettingError(
                "kernel.name: 'local-global' samples only priors with a density, whose proposal it uses; use 'pcnl' or "
                "'langevin' for posteriors and single layers"
            )

    def step(self, target: Target, state: State, rng: torch.Generator) -> tuple[State, torch.Tensor]:
        """The next state, and the mean acceptance of the Langevin steps, (batch,); without any, whether the chain moved
        to a candidate."""
        state, moved = self.global_move(target, state, rng)
        accepted = []
        for _ in range(self.local_steps):
            state, accepted_now = super().step(target, state, rng)
            accepted.append(accepted_now.float())
        return state, torch.stack(accepted).mean(0) if accepted else moved.float()

    def global_move(self, target: Target, state: State, rng: torch.Generator) -> tuple[State, torch.Tensor]:
        """The state after the choice among the candidates, and a mask (batch,) of the chains that moved.

        Candidates whose density is not finite are never chosen.
        """
        count, dimensions = state.x.shape
        proposal = Proposal(target.prior, dimensions)
        candidates = proposal.sample(count * self.candidates, rng)
        with torch.no_grad():
            log_w = (target.tilt(candidates) - proposal.log_ratio(candidates)).unflatten(0, (count, -1))
            own = state.value - proposal.log_ratio(state.x)
            log_w = torch.nan_to_num(torch.cat([own.unsqueeze(1), log_w], 1), nan=-torch.inf, posinf=-torch.inf)
            # By the Gumbel-max trick, because torch.multinomial is not deterministic on a GPU.
            uniform = torch.rand(log_w.shape, generator=rng, device=log_w.device, dtype=log_w.dtype)
            choice = (log_w - torch.log(-torch.log(uniform))).argmax(1)
            pool = torch.cat([state.x.unsqueeze(1), candidates.unflatten(0, (count, -1))], 1)
            x = pool[torch.arange(count, device=choice.device), choice]
        return self.evaluate(target, x), choice > 0
