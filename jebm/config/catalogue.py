"""The names of components and figures in params.yaml, and the classes and functions that they refer to.

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
        "convolutional": "jebm.models.backbones.convolutional:ConvolutionalHierarchy",
        "nvae": "jebm.models.backbones.nvae.hierarchy:NvaeHierarchy",
        "perceptron": "jebm.models.backbones.perceptron:PerceptronHierarchy",
        "residual": "jebm.models.backbones.residual:ResidualHierarchy",
    },
    "likelihood": {
        "bernoulli": "jebm.models.likelihoods.bernoulli:BernoulliLikelihood",
        "gaussian": "jebm.models.likelihoods.gaussian:GaussianLikelihood",
        "heteroscedastic-gaussian": "jebm.models.likelihoods.heteroscedastic_gaussian:HeteroscedasticGaussian",
        "logistic-mixture": "jebm.models.likelihoods.logistic_mixture:LogisticMixture",
        "nvae-logistic-mixture": "jebm.models.likelihoods.nvae_logistic_mixture:NvaeLogisticMixture",
    },
    "energy": {
        "layerwise": "jebm.models.energies.layerwise:LayerwiseEnergy",
        "concatenated": "jebm.models.energies.concatenated:ConcatenatedEnergy",
        "context": "jebm.models.energies.context:ContextEnergy",
        "cumulative": "jebm.models.energies.cumulative:CumulativeEnergy",
        "convolutional": "jebm.models.energies.convolutional:ConvolutionalEnergy",
    },
    "prior": {
        "gaussian": "jebm.models.priors.gaussian:GaussianPrior",
        "mixture": "jebm.models.priors.mixture:MixturePrior",
        "flow": "jebm.models.priors.flow:FlowPrior",
        "ebm": "jebm.models.priors.ebm:JointPrior",
        "diffusion": "jebm.models.priors.diffusion:DiffusionPrior",
        "ncp": "jebm.models.priors.ncp:NoiseContrastivePrior",
        "multi-stage": "jebm.models.priors.multi_stage:MultiStagePrior",
        "recovery": "jebm.models.priors.recovery:RecoveryPrior",
        "sequential": "jebm.models.priors.sequential:SequentialPrior",
        "aggregate-posterior": "jebm.models.priors.aggregate_posterior:AggregatePosterior",
    },
    "base": {
        "gaussian": "jebm.models.priors.gaussian:GaussianPrior",
        "mixture": "jebm.models.priors.mixture:MixturePrior",
        "flow": "jebm.models.priors.flow:FlowPrior",
    },
    "estimator": {
        "short-run": "jebm.training.estimators.short_run:ShortRun",
        "persistent": "jebm.training.estimators.persistent:Persistent",
        "importance": "jebm.training.estimators.importance:Importance",
        "jarzynski": "jebm.training.estimators.jarzynski:Jarzynski",
    },
    "kernel": {
        "local-global": "jebm.sampling.local_global:LocalGlobal",
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
        "cost": "jebm.evaluations.cost:Cost",
        "detection": "jebm.evaluations.detection:Detection",
        "layers": "jebm.evaluations.layers:Layers",
        "terms": "jebm.evaluations.terms:Terms",
        "posterior": "jebm.evaluations.posterior:PosteriorAccuracy",
        "chain-comparison": "jebm.evaluations.chain_comparison:ChainComparison",
        "energy-gaps": "jebm.evaluations.energy_gaps:EnergyGaps",
        "ode-error": "jebm.evaluations.ode_error:OdeError",
        "whiteness": "jebm.evaluations.whiteness:Whiteness",
        "trajectories": "jebm.evaluations.trajectories:Trajectories",
    },
    "sampler": {
        "ancestral": "jebm.sampling.samplers.ancestral:Ancestral",
        "denoising": "jebm.sampling.samplers.denoising:Denoising",
        "levels": "jebm.sampling.samplers.levels:Levels",
        "mcmc": "jebm.sampling.samplers.mcmc:Mcmc",
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
    "energy-gaps": ("jebm.report.figures.energy_gaps:draw", ("metrics",)),
    "whiteness": ("jebm.report.figures.whiteness:draw", ("evaluation:whiteness",)),
    "dimensions": ("jebm.report.figures.dimensions:draw", ("metrics",)),
    "pareto": ("jebm.report.figures.pareto:draw", ("metrics", "evaluation:cost")),
    "latent-statistics": ("jebm.report.figures.latent_statistics:draw", ("metrics", "evaluation:chain-comparison")),
    "mixing": ("jebm.report.figures.mixing:draw", ("metrics", "evaluation:chain-comparison")),
    "density-and-chain": ("jebm.report.figures.samples:draw", ("dataset", "samples")),
    "trajectories": ("jebm.report.figures.trajectories:draw", ("dataset", "evaluation:trajectories")),
    "chain-energies": ("jebm.report.figures.chain_energies:draw", ("evaluation:trajectories",)),
    "walks": ("jebm.report.figures.walks:draw", ("dataset", "layers")),
    "latent-space": ("jebm.report.figures.latent_space:draw", ("dataset", "metrics", "evaluation:layers")),
    "anomaly-curves": ("jebm.report.figures.outlier_curves:draw", ("evaluation:anomaly",)),
    "detection-curves": ("jebm.report.figures.outlier_curves:draw", ("evaluation:detection",)),
}
"""Figure → the function that draws it, and the stages that it reads (``metrics``: the collected metrics of the
study)."""
