"""The deep residual hierarchy of NVAE (Vahdat and Kautz, 2020), written from a description of its function.

============================ ==========================================================================
``convolutions``             weight-normalised and masked convolutions, and layers without default initialisation
``cells``                    operations, squeeze-and-excite and residual cells; ``architectures`` combines them
``gaussians``                the clamped Gaussians of priors and posteriors
``flows``                    volume-preserving autoregressive flows of the posterior
``groups``                   one latent layer with its encoder and decoder cells, prior and posterior
``checkpointing``            batch norm where cells are recomputed for gradients
``hierarchy``                the backbone, :class:`jebm.models.backbones.base.Hierarchy`
============================ ==========================================================================

``jebm.models.checkpoints.nvae`` reads published weights, whose likelihoods are ``bernoulli``,
``heteroscedastic-gaussian`` and ``nvae-logistic-mixture``. ``jebm.models.batch_norm`` recalibrates the batch norm of
the decoder on draws from the prior.

There are two deep backbones for the following reason. ``residual`` is a small model of this project: its posterior is a
Gaussian on ε, it has no batch norm, its maps may be vectors, and it takes any data. ``nvae`` must match published
weights in every detail: batch norm, weight norm, inverted bottlenecks, two towers of cells, and posteriors on z whose
parameters are added to those of the prior and which are followed by flows. Both implement the interface
:class:`jebm.models.backbones.base.Hierarchy`. A common base class would need an option for each of these details, and
the arithmetic of ``residual`` must not change, because results of the digits study are recorded.
"""
