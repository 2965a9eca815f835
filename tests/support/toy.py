"""A parameter file of one small study, for tests of whatever reads parameters."""

import yaml

DELETE = object()

TEXT = """
default_studies: [toy]
runtime: {checkpoint_seconds: 30}
toy:
  seeds: [0, 1]
  dataset: {name: digits, test_count: 500, ood_sets: [patches]}
  backbone: {name: perceptron, latent_dims: [4, 2]}
  train_backbone: {steps: 10, batch_size: 8, learning_rate: 1.0e-3, kl_warmup: [[0.0, 0.5], [0.1, 0.6]]}
  prior: {name: ebm, energy: {name: layerwise, hidden: 8}}
  train_prior:
    steps: 10
    batch_size: 8
    learning_rate: 1.0e-3
    estimator: {name: short-run, kernel: {name: pcnl, step_size: 0.3}, steps: 5}
  draw_samples: {count: 100, sampler: {name: mcmc, kernel: {name: pcnl, step_size: 0.3}, steps: 20}}
  variants:
    gaussian: {prior: {name: gaussian}, draw_samples: {sampler: {name: ancestral}}}
    joint: {}
    joint-k40: {draw_samples: {sampler: {steps: 40}}}
  tables:
    main: {variants: [gaussian, joint], metrics: [fd]}
  figures:
    samples: [gaussian, joint]
"""


def params(changes=None):
    """The parameters above with some dotted keys set to other values, or removed."""
    content = yaml.safe_load(TEXT)
    for dotted, value in (changes or {}).items():
        *path, last = dotted.split("/")
        block = content
        for key in path:
            block = block[key]
        if value is DELETE:
            del block[last]
        else:
            block[last] = value
    return content
