"""Checks whether the blocks of an experiment fit together. Components declare their properties and needs as traits of
their classes (``block.traits``).

Each check raises a ValueError of the form ``@key: what is wrong``, with the key relative to the block of the
experiment.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from jebm.config.catalogue import COMPONENTS
from jebm.config.components import Section, blocks_in, marked_fields, names_with, traits_of
from jebm.config.types import CHOSEN_LAYERS, LAYERS, LAYERS_PER_SCALE, PER_CHOSEN_LAYER, PER_SCALE


def one_origin_of_weights(trained: Section | None, imported: Section | None) -> None:
    """A backbone is either trained or imported."""
    if trained is None and imported is None:
        raise ValueError("@train_backbone: is required, but missing; or give import_backbone instead")
    if trained is not None and imported is not None:
        raise ValueError("@import_backbone: the weights come from there or from train_backbone; set one to null")


def layers_per_scale(backbone: Section) -> list[int]:
    """Number of latent layers at each scale of a ``backbone:`` block, finest scale first.

    It is the parameter with the type ``LayersPerScale``, or ``LayerDims`` if all layers belong to one scale.
    """
    for key in marked_fields(type(backbone), LAYERS_PER_SCALE):
        return getattr(backbone, key)
    for key in marked_fields(type(backbone), LAYERS):
        return [len(getattr(backbone, key))]
    raise ValueError(f"@backbone: no parameter of '{backbone.name}' has the type LayerDims or LayersPerScale")


def layer_count(backbone: Section) -> int:
    """Number of latent layers of a ``backbone:`` block."""
    return sum(layers_per_scale(backbone))


def scales_agree(backbone: Section) -> None:
    """All lists with one entry per scale have the same length."""
    keys = [key for mark in (LAYERS_PER_SCALE, PER_SCALE) for key in marked_fields(type(backbone), mark)]
    lengths = {key: len(getattr(backbone, key)) for key in keys}
    if len(set(lengths.values())) > 1:
        first, *others = sorted(lengths, key=lambda key: key not in marked_fields(type(backbone), LAYERS_PER_SCALE))
        told = _listed([f"{key} {lengths[key]}" for key in sorted(others)])
        raise ValueError(
            f"@backbone.{first}: has {lengths[first]} entries, {told}; "
            "give one of each for every scale, the finest first"
        )


def ramps_fit(backbone: Section, ramps: Mapping[str, list[list[float]]]) -> None:
    """A KL warm-up has one ramp for all layers, or one per layer.

    Args:
        ramps: block of parameters → its ``kl_warmup``.
    """
    layers = layer_count(backbone)
    for block, entries in ramps.items():
        if len(entries) not in (1, layers):
            raise ValueError(
                f"@{block}.kl_warmup: has {len(entries)} entries, but the backbone has {layers} layers; give one "
                "[start, end] per layer, bottom first, or a single one for all"
            )
        if any(start > end for start, end in entries):
            raise ValueError(f"@{block}.kl_warmup: each entry is [start, end] with start ≤ end")


def energies_fit_layers(prior: Section, backbone: Section) -> None:
    """Energies are defined on layers that the backbone has, and lists of settings have one entry per such layer."""
    scales = layers_per_scale(backbone)
    for path, energy in blocks_in(prior):
        terms = sum(scales)
        for key in marked_fields(type(energy), CHOSEN_LAYERS):
            terms = _chosen(f"prior.{path}.{key}", getattr(energy, key), scales)
        for key in marked_fields(type(energy), PER_CHOSEN_LAYER):
            numbers = getattr(energy, key)
            if isinstance(numbers, list) and len(numbers) != terms:
                raise ValueError(
                    f"@prior.{path}.{key}: has {len(numbers)} entries, but {terms} layers have an energy; "
                    "give one number for all, or one for each of them, bottom first"
                )


def _chosen(key: str, choice: Any, scales: list[int]) -> int:
    """Number of layers that a choice of layers selects."""
    if choice == "all":
        return sum(scales)
    if isinstance(choice, dict):
        coarsest = choice["top_scales"]
        if coarsest > len(scales):
            raise ValueError(f"@{key}.top_scales: is {coarsest}; the backbone's scales: {len(scales)}")
        return sum(scales[-coarsest:])
    if max(choice) > sum(scales) or len(set(choice)) != len(choice):
        raise ValueError(
            f"@{key}: is {choice}; allowed are 'all' or different numbers from 1 (bottom) to {sum(scales)}"
        )
    return len(choice)


def energy_fits_prior(prior: Section) -> None:
    """A prior that is drawn layer by layer needs an energy with a term per layer."""
    for path, energy in blocks_in(prior) if prior.traits.sequential else ():
        if not getattr(energy.traits, "layered", True):
            raise ValueError(
                f"@prior.{path}.name: '{energy.name}' has no term per layer, which the prior '{prior.name}' needs; "
                f"allowed: {', '.join(names_with('energy', 'layered'))}"
            )


def sampler_fits(prior: Section, sampler: Section) -> None:
    """The sampler can draw from the prior."""
    needed = sampler.traits.needs
    if not getattr(prior.traits, needed, False):
        able = [n for n in COMPONENTS["sampler"] if getattr(prior.traits, traits_of("sampler", n).needs, False)]
        raise ValueError(
            f"@draw_samples.sampler.name: '{sampler.name}' can't draw from the prior '{prior.name}', only from "
            f"{_listed(names_with('prior', needed))}; use {_listed([repr(name) for name in able], 'or')}"
        )


def joint_training_fits(prior: Section, train_joint: Section | None) -> None:
    """The prior can be trained together with the backbone, if that is requested."""
    if train_joint is None:
        return
    if not prior.traits.joint_training:
        raise ValueError(
            f"@prior.name: '{prior.name}' can't be trained with the backbone, as 'train_joint' asks for, "
            f"only {_listed(names_with('prior', 'joint_training'))}"
        )
    if getattr(getattr(prior, "base", None), "name", "gaussian") != "gaussian":
        raise ValueError(
            f"@prior.base.name: '{prior.base.name}' is fitted to a trained backbone; with 'train_joint', only "
            "'gaussian' is allowed"
        )


def training_fits(prior: Section, train_prior: Section) -> None:
    """The settings of stage 2 are those that the training of this prior uses."""
    able, estimator = prior.traits.estimators, train_prior.estimator
    if bool(able) != (estimator is not None):
        needs = "is learned without one: set it to null" if estimator else f"needs one: {_listed(list(able), 'or')}"
        raise ValueError(f"@train_prior.estimator: the prior '{prior.name}' {needs}")
    if estimator and estimator.name not in able:
        raise ValueError(
            f"@train_prior.estimator.name: the prior '{prior.name}' can't be trained with '{estimator.name}', only "
            f"with {_listed([repr(name) for name in able], 'or')}"
        )
    if train_prior.select and not prior.traits.evaluable:
        raise ValueError(f"@train_prior.select: the prior '{prior.name}' has no density that can be evaluated")
    if train_prior.energy_l2 and not prior.traits.contrastive:
        able = _listed([repr(name) for name in names_with("prior", "contrastive")])
        raise ValueError(f"@train_prior.energy_l2: the prior '{prior.name}' is learned without it; only {able} has it")


def chains_fit(prior: Section, chains: Iterable[tuple[str, Section]]) -> None:
    """Chains outside whitened space have a kernel and a prior that allow it.

    Args:
        chains: key → block of each chain that training or sampling uses.
    """
    for where, chain in chains:
        if (space := getattr(chain, "space", "whitened")) == "whitened":
            continue
        if getattr(getattr(prior, "base", None), "name", "gaussian") != "gaussian":
            raise ValueError(f"@{where}.space: '{space}' needs a prior with the base 'gaussian'")
        _kernel_fits(f"@{where}.space: '{space}'", chain)
        if not prior.traits.contrastive:
            priors = _listed([repr(name) for name in names_with("prior", "contrastive")], "or")
            raise ValueError(f"@{where}.space: '{space}' needs the prior {priors}")


def evaluated_chains_fit(prior: Section, evaluations: Mapping[str, Section]) -> None:
    """Evaluations compare chains in any space, on any prior with an energy; some are made for one kind of prior."""
    for label, block in evaluations.items():
        if (needed := getattr(block.traits, "needs", None)) and not getattr(prior.traits, needed, False):
            able = _listed([repr(name) for name in names_with("prior", needed)], "or")
            raise ValueError(f"@evaluations.{label}.name: '{block.name}' needs the prior {able}")
    for path, chain in blocks_in(dict(evaluations)):
        if (space := getattr(chain, "space", "whitened")) == "whitened":
            continue
        key = f"@evaluations.{path}.space: '{space}'"
        _kernel_fits(key, chain)
        if not hasattr(prior, "energy"):
            raise ValueError(f"{key} needs a prior with an energy")


def _kernel_fits(key: str, chain: Section) -> None:
    if chain.space == "z" and chain.kernel.traits.whitened_only:
        able = [name for name in COMPONENTS["kernel"] if not traits_of("kernel", name).whitened_only]
        raise ValueError(f"{key} needs a {_listed([repr(name) for name in able], 'or')} kernel")


def adapted_step_size_fits(sampler: Section, estimator: Section | None) -> None:
    """A sampler may use the step size to which training adapted its chain.

    Args:
        estimator: the estimator of stage 2, if there is one.
    """
    if getattr(sampler, "step_size", "own") != "adapted":
        return
    if not getattr(estimator, "adaptation_steps", 0):
        raise ValueError("@draw_samples.sampler.step_size: 'adapted' needs train_prior.estimator.adaptation_steps")
    if estimator.kernel.name != sampler.kernel.name:
        raise ValueError(
            f"@draw_samples.sampler.step_size: was adapted for the kernel '{estimator.kernel.name}' of "
            f"train_prior.estimator, not for '{sampler.kernel.name}'"
        )


def devices_share(devices: int, batch_sizes: Mapping[str, int], samples: int) -> None:
    """The devices can share each training batch, and the samples.

    Args:
        batch_sizes: block of parameters → its ``batch_size``.
    """
    for name, size in batch_sizes.items():
        if size % devices:
            raise ValueError(
                f"@compute.devices: is {devices}, but {name}.batch_size is {size}; each device gets "
                "an equal share of every batch"
            )
    if samples < devices:
        raise ValueError(f"@compute.devices: is {devices}, more than draw_samples.count ({samples})")


BATCH_NORM = ("spectral_penalty", "batch_norm_penalty", "initial_penalty", "recalibrate")
"""Settings for batch norm and for the norms of convolutions."""


def batch_norm_fits(backbone: Section, blocks: Mapping[str, Section | None]) -> None:
    """Settings for batch norm require a backbone that has it."""
    for block, settings in blocks.items() if not backbone.traits.has_batch_norm else ():
        for key in BATCH_NORM:
            if getattr(settings, key, None):
                raise ValueError(
                    f"@{block}.{key}: the backbone '{backbone.name}' has no batch norm and no normalised "
                    f"convolutions, only {_listed(names_with('backbone', 'has_batch_norm'))}"
                )


def features_fit(features: Section, evaluate_samples: Section) -> None:
    """Only streamed feature spaces, which are compared by their moments, allow singular covariances."""
    if evaluate_samples.allow_singular and not features.traits.streamed:
        raise ValueError(
            f"@evaluate_samples.allow_singular: has no meaning in the features '{features.name}', only in "
            f"{_listed(names_with('features', 'streamed'))}"
        )


def figure_can_be_drawn(name: str, reads: Iterable[str], variants: Mapping[str, Section]) -> None:
    """The variants of a figure have the evaluations and the density that it shows.

    Args:
        reads: the stages that the figure reads.
        variants: name → blocks of the variants that it shows.
    """
    wanted = {kind.partition(":")[2] for kind in reads if kind.startswith("evaluation:")}
    for variant, params in variants.items():
        if missing := wanted - {block.name for block in params.evaluations.values()}:
            raise ValueError(f"@figures.{name}: '{variant}' has no evaluation '{missing.pop()}' to show")
        if "density_metrics" in reads and not params.prior.traits.evaluable:
            raise ValueError(f"@figures.{name}: '{variant}' has no density that can be evaluated, nor shown")


def _listed(names: list[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
