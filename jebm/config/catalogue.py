"""The names of components, figures and tables in params.yaml, and the classes and functions that they refer to.

A new component is one file and one line here; its class declares everything else. This module holds only data:
importing it imports none of the components.
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
        "fashion-mnist": "jebm.data.sources.fashion_mnist:FashionMnist",
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
        "conv": "jebm.models.energies.conv:MapEnergy",
    },
    "prior": {
        "gaussian": "jebm.models.priors.gaussian:GaussianPrior",
        "mixture": "jebm.models.priors.mixture:MixturePrior",
        "ebm": "jebm.models.priors.ebm:JointPrior",
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
        "ancestral": "jebm.sampling.samplers.ancestral:Ancestral",
        "chain": "jebm.sampling.samplers.chain:Chain",
        "resampling": "jebm.sampling.samplers.resampling:Resampling",
        "sequential": "jebm.sampling.samplers.sequential:Sequential",
    },
}

IMPORTERS: dict[str, str] = {
    "jebm": "jebm.models.checkpoints.base:read_imported",
    "nvae": "jebm.models.checkpoints.nvae:read_checkpoint",
}
"""Format → function that reads a backbone's weights from a file of this format; ``jebm import`` writes the format
``jebm``."""

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
"""Figure → the function that draws it, and the stages that it reads (``metrics``: the collected metrics of the
study)."""
