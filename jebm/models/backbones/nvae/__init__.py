"""The deep residual hierarchy of NVAE (Vahdat and Kautz, 2020), written from a description of its function.

============================ ==========================================================================
``convolutions``             weight-normalised and masked convolutions, and layers that draw nothing when built
``cells``                    operations, squeeze-and-excite and residual cells; ``architectures`` names their sets
``gaussians``                the clamped Gaussians of priors and posteriors
``flows``                    volume-preserving autoregressive flows of the posterior
``heads``                    p(x | z): Bernoulli, Gaussian, discretised mixture of logistics
``groups``                   one latent group with its way up, its way down, prior and posterior
``hierarchy``                the backbone, :class:`jebm.models.backbones.base.Hierarchy`
============================ ==========================================================================

Published weights are read by ``jebm.models.checkpoints.nvae``; ``jebm.models.batch_norm`` draws the batch-norm
statistics of the decoder anew from the prior.

Why there are two deep backbones. ``residual`` is a small model of ours: its posterior is a Gaussian on ε whose
parameters are read off directly, it has no batch statistics, its maps may shrink to dense vectors, and it takes any
data. This one is bound to published weights by every detail: batch norm, weight norm, inverted bottlenecks, two towers
of cells, posteriors on z that are added to the raw prior parameters and then flow. They share the interface
:class:`jebm.models.backbones.base.Hierarchy` with its top-down pass. A common base of both would hold a switch for each
of those details, and the recorded results of the digits study pin the arithmetic of the smaller one.
"""
