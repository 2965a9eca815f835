"""A product of noise-contrastive stages, each against the density of those before it (adaptive multi-stage density
ratios; Xiao and Han, "Adaptive multi-stage density ratio estimation for learning latent space energy-based model",
NeurIPS 2022)."""

from __future__ import annotations

import torch
from torch import nn

from jebm.config.components import build
from jebm.config.types import Count, EnergyBlock, KernelBlock, OptionalBase
from jebm.models.backbones.base import Hierarchy, TopDown
from jebm.models.energies.base import Energy
from jebm.models.priors.base import Prior
from jebm.models.priors.ebm import JointPrior
from jebm.models.priors.gaussian import GaussianPrior


class ProductEnergy(Energy):
    """f = Σ_m f_m, the log of a product of ratios."""

    def __init__(self, stages: list[Energy]):
        super().__init__()
        self.stages = nn.ModuleList(stages)

    @property
    def nets(self) -> dict[str, nn.Module]:
        """The networks of all stages; those of stage 2 are called ``2-…``."""
        return {f"{m}-{name}": net for m, energy in enumerate(self.stages, 1) for name, net in energy.nets.items()}

    def terms(self, top: TopDown) -> torch.Tensor:
        return torch.cat([energy.terms(top) for energy in self.stages], 1)

    def initialise(self, rng: torch.Generator) -> None:
        for energy in self.stages:
            energy.initialise(rng)


class MultiStagePrior(JointPrior):
    """p(ε) ∝ Π_m r_m(ε) p_0(ε), where r_m = exp f_m are the odds of a classifier between q(ε) and draws of the product
    of the stages before it, p_{m−1}(ε).

    One ratio between q and N(0, I) is hard to learn, because the two hardly overlap: a classifier tells them apart
    without knowing q. Each stage brings the density nearer, so that the next ratio is an easier one. With one stage it
    is the prior ``ncp``. The draws of p_{m−1} are those of chains that go on while stage m is trained.

    Args:
        energy: f_m; each stage has its own networks.
        stages: number of stages. Each is trained for all of ``train_prior.steps``.
        base: p_0, the density against which the first stage is learned; ``null`` is N(0, I).
        proposal: a normalised density close to the prior, as for the prior ``ebm``.
        kernel: the transition of the chains on p_{m−1}; they make one in each training step.
        walkers: number of these chains.
    """

    fit = "jebm.training.multi_stage:fit"
    estimators = ()
    contrastive = False
    joint_training = False

    def __init__(
        self,
        hierarchy: Hierarchy,
        *,
        energy: EnergyBlock,
        stages: Count = 3,
        base: OptionalBase = None,
        proposal: OptionalBase = None,
        kernel: KernelBlock = {"name": "local-global"},  # noqa: B006
        walkers: Count = 256,
    ):
        Prior.__init__(self, hierarchy)
        self.energy = ProductEnergy([build("energy", energy, hierarchy) for _ in range(stages)])
        self.base: Prior = build("base", base, hierarchy) if base else GaussianPrior(hierarchy)
        self.own_proposal: Prior | None = build("base", proposal, hierarchy) if proposal else None
        self.kernel, self.walkers = build("kernel", kernel), walkers

    def first(self, stages: int) -> JointPrior:
        """The product of the first stages, p_m, which shares their networks; 0 stages are the base."""
        return _FirstStages(self, stages)


class _FirstStages(JointPrior):
    def __init__(self, whole: MultiStagePrior, stages: int):
        Prior.__init__(self, whole.hierarchy)
        self.energy = ProductEnergy(list(whole.energy.stages[:stages]))
        self.base, self.own_proposal = whole.base, whole.own_proposal
