"""Names of components, figures and tables as params.yaml knows them, and what is behind each.

A new dataset, backbone, energy, prior, kernel or sampler is one file and one line here. Data only: reading it
imports none of what it names.
"""

COMPONENTS: dict[str, dict[str, str]] = {
    "dataset": {
        "breast-cancer": "jebm.data.breast_cancer:BreastCancer",
        "digits": "jebm.data.digits:Digits",
        "images": "jebm.data.images:Images",
    },
    "source": {
        "celeba": "jebm.data.sources.celeba:CelebA",
        "cifar10": "jebm.data.sources.cifar10:Cifar10",
        "fashion-mnist": "jebm.data.sources.mnist:FashionMnist",
        "folder": "jebm.data.sources.folder:Folder",
        "lsun": "jebm.data.sources.lsun:Lsun",
        "mnist": "jebm.data.sources.mnist:Mnist",
        "svhn": "jebm.data.sources.svhn:Svhn",
    },
    "backbone": {
        "chain": "jebm.models.backbones.chain:ChainHierarchy",
        "convolutional": "jebm.models.backbones.convolutional:ConvolutionalHierarchy",
        "nvae": "jebm.models.backbones.nvae.hierarchy:NvaeHierarchy",
        "residual": "jebm.models.backbones.residual:ResidualHierarchy",
    },
    "likelihood": {
        "gaussian": "jebm.models.likelihoods.gaussian:GaussianLikelihood",
        "logistic-mixture": "jebm.models.likelihoods.logistic_mixture:LogisticMixture",
    },
    "energy": {
        "layerwise": "jebm.models.energies.layerwise:LayerwiseEnergy",
        "concatenated": "jebm.models.energies.concatenated:ConcatenatedEnergy",
        "context": "jebm.models.energies.context:ContextEnergy",
        "cumulative": "jebm.models.energies.cumulative:CumulativeEnergy",
        "conv": "jebm.models.energies.convolutional:MapEnergy",
    },
    "prior": {
        "gaussian": "jebm.models.priors.base:GaussianPrior",
        "mixture": "jebm.models.priors.mixture:MixturePrior",
        "ebm": "jebm.models.priors.joint:JointPrior",
        "ncp": "jebm.models.priors.ncp:NoiseContrastivePrior",
        "sequential": "jebm.models.priors.sequential:SequentialPrior",
    },
    "kernel": {
        "langevin": "jebm.sampling.langevin:Langevin",
        "pcnl": "jebm.sampling.pcnl:CrankNicolsonLangevin",
    },
    "features": {
        "classifier": "jebm.features.classifier:Classifier",
        "identity": "jebm.features.identity:Identity",
        "inception": "jebm.features.inception:Inception",
    },
    "evaluation": {
        "anomaly": "jebm.evaluations.anomaly:Anomaly",
        "detection": "jebm.evaluations.detection:Detection",
        "layers": "jebm.evaluations.layers:Layers",
        "terms": "jebm.evaluations.terms:Terms",
        "posterior": "jebm.evaluations.posterior:PosteriorAccuracy",
        "chains": "jebm.evaluations.chains:Chains",
        "partition": "jebm.evaluations.partition:Partition",
        "groups": "jebm.evaluations.groups:Groups",
        "whiteness": "jebm.evaluations.whiteness:Whiteness",
    },
    "sampler": {
        "ancestral": "jebm.sampling.samplers:Ancestral",
        "chain": "jebm.sampling.samplers:Chain",
        "resampling": "jebm.sampling.samplers:Resampling",
        "sequential": "jebm.sampling.sequential:Sequential",
    },
}

FITS: dict[str, tuple[str, tuple[str, ...]]] = {
    "mixture": ("jebm.training.mixture:fit", ()),
    "ebm": ("jebm.training.ebm:fit", ("train_prior",)),
    "ncp": ("jebm.training.ncp:fit", ("train_prior",)),
    "sequential": ("jebm.training.sequential:fit", ("train_prior",)),
}
"""Prior → the function ``fit(prior, data, settings, run)`` that learns it, and the blocks of parameters that this uses
besides the prior's own.

A prior that is not listed has nothing to learn."""


IMPORTERS: dict[str, str] = {
    "jebm": "jebm.models.checkpoints.base:read_imported",
    "nvae": "jebm.models.checkpoints.nvae:read_checkpoint",
}
"""What reads a backbone's weights from a file of each format; ``jebm`` is what ``jebm import`` writes."""

EXACT_PRIORS = ("gaussian", "mixture")
"""Priors that the ancestral sampler can draw from."""

CHAINLESS_PRIORS = ("ncp",)
"""Priors that are trained by gradient, but without a chain."""

SEQUENTIAL_PRIORS = ("sequential",)
"""Priors that only the sequential sampler can draw from, layer by layer; their density can't be evaluated."""

LAYER_ENERGIES = ("layerwise", "context", "cumulative", "conv")
"""Energies with a term for each layer that sees no layer below it: what sequential priors need."""
JOINT_PRIORS = ("ebm",)
"""Priors that ``train_joint`` can train together with the backbone: those with energies under one normaliser."""

STREAMED_FEATURES = ("inception",)
"""Feature spaces with so many dimensions that sets are compared by their moments, collected batch by batch, and by a
bounded number of features; the moments of the reference are a stage of their own. Distances in them are named FID and
KID, in the others FD and KD."""

BATCH_NORM_BACKBONES = ("nvae",)
"""Backbones with batch norm, whose statistics can be drawn anew, and with convolutions whose norms can be held down."""

FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "samples": ("jebm.report.figures.samples:draw", ("dataset", "samples")),
    "langevin-steps": ("jebm.report.figures.langevin_steps:draw", ("metrics",)),
    "energy-size": ("jebm.report.figures.energy_size:draw", ("metrics",)),
    "layers": ("jebm.report.figures.layers:draw", ("dataset", "layers")),
    "energies": ("jebm.report.figures.energies:draw", ("density_metrics", "samples")),
    "training": ("jebm.report.figures.training:draw", ("backbone", "prior")),
    "depth": ("jebm.report.figures.depth:draw", ("metrics",)),
    "terms": ("jebm.report.figures.terms:draw", ("metrics",)),
    "posterior": ("jebm.report.figures.posterior:draw", ("evaluation:posterior",)),
    "detection": ("jebm.report.figures.detection:draw", ("metrics",)),
    "columns": ("jebm.report.figures.columns:draw", ("dataset", "samples")),
    "roc": ("jebm.report.figures.roc:draw", ("density_metrics",)),
    "steps": ("jebm.report.figures.steps:draw", ("metrics",)),
    "groups": ("jebm.report.figures.groups:draw", ("metrics",)),
    "whiteness": ("jebm.report.figures.whiteness:draw", ("evaluation:whiteness",)),
    "mixing": ("jebm.report.figures.mixing:draw", ("metrics", "evaluation:chains")),
}
"""How a figure is drawn, and the stages that it reads (``metrics``: the study's collected metrics)."""
