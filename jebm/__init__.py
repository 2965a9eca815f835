"""jebm: joint latent-space energy-based priors for multi-layer generators (arXiv 2306.06323).

For scripts and notebooks: :func:`jebm.load` gives a trained model, :func:`jebm.load_metrics` the results of a study.
"""

import importlib

__version__ = "0.1.0"

_API = {"load": "jebm.api.trained", "load_metrics": "jebm.api.results"}


def __getattr__(name: str):
    """Import what scripts use when it is used: the command line must not wait for torch."""
    if name in _API:
        return getattr(importlib.import_module(_API[name]), name)
    raise AttributeError(f"module 'jebm' has no attribute '{name}'")
