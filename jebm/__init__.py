"""jebm: joint latent-space energy-based priors for multi-layer generators (arXiv 2306.06323)."""

__version__ = "0.1.0"
