"""Dark images and bright ones as their outliers, with a random two-layer chain and energies on it."""

import torch
from oracles import spec

from jebm.data.dataset import Dataset
from jebm.io.filenames import IMAGES
from jebm.models.backbones.perceptron import PerceptronHierarchy
from jebm.models.priors.ebm import JointPrior
from jebm.runtime.random import make_rng

LEVELS, SHAPE = 17, (1, 2, 3)


def make_data(ood=("high", "same")):
    """Dark normals, bright outliers, and outliers that are no outliers."""
    rng = make_rng("detection data")

    def images(count, low, high):
        return torch.randint(low, high, (count, *SHAPE), generator=rng, dtype=torch.uint8)

    sets = {"ood/high": images(40, 8, 17), "ood/same": images(50, 0, 9)}
    tensors = {"train": images(80, 0, 9), "test": images(60, 0, 9)} | {
        f"ood/{name}": sets[f"ood/{name}"] for name in ood
    }
    tensors["train_labels"] = torch.arange(80) % 2
    return Dataset(tensors, {"levels": LEVELS, "image_shape": list(SHAPE), "sha256": {IMAGES: "0"}})


def make_hierarchy(spread: float | None = None):
    """A random two-layer chain; ``spread`` sets every log standard deviation of q."""
    hierarchy = PerceptronHierarchy(SHAPE, latent_dims=[3, 2], hidden=8, depth=1)
    hierarchy.initialise(make_rng("detection hierarchy"))
    if spread is not None:
        with torch.no_grad():
            for net, dims in zip(hierarchy.inference_nets, (3, 2), strict=True):
                net[-1].weight[dims:] = 0
                net[-1].bias[dims:] = spread
    return hierarchy.requires_grad_(False).eval()


def make_energy(hierarchy):
    prior = JointPrior(hierarchy, energy=spec("energy", name="layerwise", hidden=8, depth=1))
    prior.energy.initialise(make_rng("detection energy"))
    with torch.no_grad():
        for net in prior.energy.nets.values():
            net[-1].weight.normal_(generator=make_rng("detection weights"))
    return prior.requires_grad_(False)


class Along(torch.nn.Module):
    """An energy that rises along a direction of z_1."""

    def __init__(self, direction):
        super().__init__()
        self.direction, self.nets = direction, {"1": None}

    def terms(self, top):
        return (top.z[0] @ self.direction).unsqueeze(1)

    def forward(self, top):
        return self.terms(top).sum(1)
