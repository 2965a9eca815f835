"""A component, metric or figure of one's own is one new file and one new line, and runs through the whole pipeline."""

import json
import textwrap
from copy import deepcopy
from pathlib import Path

import pytest
from workspace import Workspace

CATALOGUE = Path("jebm/config/catalogue.py")

ADDITIONS = {
    "dataset": (
        "stripes",
        "jebm.data.stripes:Stripes",
        """
        from __future__ import annotations

        import torch

        from jebm.config.types import Count
        from jebm.runtime.random import make_rng


        class Stripes:
            def __init__(self, *, train_count: Count = 200, test_count: Count = 100):
                self.counts = {"train": train_count, "validation": test_count, "test": test_count}

            def prepare(self, files=None, scratch=None):
                rng = make_rng("stripes")
                splits = {}
                for split, count in self.counts.items():
                    phase = torch.rand(count, 1, 1, 1, generator=rng) * 6.3
                    splits[split] = ((torch.arange(4.0) + phase).sin() * 7 + 8).round().expand(count, 1, 4, 4)
                return {split: images.to(torch.uint8).contiguous() for split, images in splits.items()}, 16, {}
        """,
    ),
    "features": (
        "coarse",
        "jebm.features.coarse:Coarse",
        """
        from __future__ import annotations

        from torch.nn.functional import avg_pool2d

        from jebm.config.types import Count
        from jebm.features.base import PixelSpace


        class Coarse(PixelSpace):
            about = "means of squares of pixels"

            def __init__(self, image_shape, classes, *, square: Count = 2):
                super().__init__()
                self.square = square

            def of_pixels(self, x):
                return avg_pool2d(x, self.square).flatten(1)
        """,
    ),
    "likelihood": (
        "laplace",
        "jebm.models.likelihoods.laplace:LaplaceLikelihood",
        """
        from __future__ import annotations

        import torch
        from torch.distributions import Laplace

        from jebm.config.types import Positive
        from jebm.models.likelihoods.base import Likelihood, PixelDistribution


        class LaplacePixels(PixelDistribution):
            def __init__(self, mean, scale):
                self.pixels = Laplace(mean, scale)

            @property
            def mean(self):
                return self.pixels.mean

            def log_prob(self, x):
                return self.pixels.log_prob(x).flatten(1).sum(1)

            def sample(self, rng):
                uniform = torch.rand(self.mean.shape, generator=rng)
                return self.pixels.icdf(uniform)


        class LaplaceLikelihood(Likelihood):
            def __init__(self, image_shape, *, scale: Positive = 0.3):
                super().__init__()
                self.image_shape, self.channels, self.scale = tuple(image_shape), image_shape[0], scale

            def forward(self, parameters):
                return LaplacePixels(torch.tanh(parameters), self.scale)
        """,
    ),
    "backbone": (
        "thin",
        "jebm.models.backbones.thin:ThinHierarchy",
        """
        from __future__ import annotations

        from jebm.config.types import LayersPerScale, LikelihoodBlock
        from jebm.models.backbones.residual import ResidualHierarchy


        class ThinHierarchy(ResidualHierarchy):
            def __init__(self, image_shape, *, depths: LayersPerScale, likelihood: LikelihoodBlock):
                own = {"latent_channels": 2, "channels": [8], "likelihood": likelihood}
                super().__init__(image_shape, layers_per_scale=depths, **own)
        """,
    ),
    "energy": (
        "quadratic",
        "jebm.models.energies.quadratic:QuadraticEnergy",
        """
        from __future__ import annotations

        from torch import nn

        from jebm.config.types import LayerChoice
        from jebm.models.energies.base import LayerEnergy, chosen_layers


        class QuadraticEnergy(LayerEnergy):
            def __init__(self, hierarchy, *, only: LayerChoice = "all"):
                super().__init__()
                chosen = chosen_layers(hierarchy.latent_shapes, only)
                sizes = {str(number): hierarchy.layer_dims[number - 1] for number in chosen}
                self.nets = nn.ModuleDict({name: nn.Sequential(nn.Linear(size, 1)) for name, size in sizes.items()})

            def term(self, number, top):
                return -self.nets[str(number)](top.z[0].flatten(1).square()).squeeze(1)
        """,
    ),
    "prior": (
        "tempered",
        "jebm.models.priors.tempered:TemperedPrior",
        """
        from __future__ import annotations

        from jebm.config.types import EnergyBlock, Positive
        from jebm.models.priors.ebm import JointPrior


        class TemperedPrior(JointPrior):
            joint_training = False

            def __init__(self, hierarchy, *, energy: EnergyBlock, temperature: Positive = 1.0):
                super().__init__(hierarchy, energy=energy)
                self.temperature = temperature

            def tilt(self, eps):
                return super().tilt(eps) / self.temperature

            def tilt_after(self, eps, top):
                return super().tilt_after(eps, top) / self.temperature
        """,
    ),
    "kernel": (
        "mala",
        "jebm.sampling.mala:Mala",
        """
        from __future__ import annotations

        from jebm.config.types import Positive
        from jebm.sampling.langevin import Langevin


        class Mala(Langevin):
            def __init__(self, *, step_size: Positive):
                super().__init__(step_size=step_size, adjusted=True)
        """,
    ),
    "evaluation": (
        "extent",
        "jebm.evaluations.extent:Extent",
        """
        from __future__ import annotations

        from jebm.config.types import Count
        from jebm.evaluations.base import Evaluation


        class Extent(Evaluation):
            metrics = {"extent": ("extent", 0, 3, "mean length of ε over the draws, weighted by the tilt")}

            def __init__(self, *, draws: Count = 500):
                self.draws = draws

            def evaluate(self, subject, record):
                import torch

                eps = torch.randn(self.draws, subject.hierarchy.dimensions, generator=subject.rng("extent"))
                weights = torch.softmax(subject.prior.tilt(eps), 0)
                lengths = eps.norm(dim=1)
                protocol = record.protocol("extent", {"draws": self.draws})
                record.add("extent", float(weights @ lengths), self.draws, protocol)
                return {"lengths": lengths}
        """,
    ),
    "figure": (
        "lengths",
        ("jebm.report.figures.lengths:draw", ("evaluation:extent",)),
        '''
        import matplotlib.pyplot as plt

        from jebm.io.filenames import ARRAYS
        from jebm.io.tensors import read_tensors


        def draw(plan, variants):
            """Lengths of the draws of each variant at the first seed."""
            figure, axes = plt.subplots()
            for name in variants:
                (stage,) = plan.variants[name].evaluations.values()
                axes.hist(read_tensors(stage.run_folder(plan.seeds[0]) / ARRAYS)[0]["lengths"].numpy(), label=name)
            return figure
        ''',
    ),
}
"""Kind → registered name, what is registered, and the text of the file."""

STUDY = {
    "seeds": [1],
    "dataset": {"name": "stripes"},
    "features": {"name": "coarse"},
    "backbone": {"name": "thin", "depths": [2], "likelihood": {"name": "laplace", "scale": 0.2}},
    "train_backbone": {"steps": 3, "batch_size": 8, "learning_rate": 1e-3, "kl_warmup": [[0.0, 0.5], [0.0, 0.5]]},
    "prior": {"name": "tempered", "temperature": 2.0, "energy": {"name": "quadratic", "only": [2]}},
    "train_prior": {
        "steps": 3,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "estimator": {"name": "short-run", "kernel": {"name": "mala", "step_size": 0.3}, "steps": 2},
    },
    "draw_samples": {
        "count": 60,
        "sampler": {"name": "mcmc", "kernel": {"name": "mala", "step_size": 0.3}, "steps": 2},
    },
    "evaluate_samples": {"kernel_distance_subsets": 2},
    "evaluate_density": {"importance_samples": 2, "detection_samples": 0, "partition_samples": 50},
    "evaluations": {"length": {"name": "extent", "draws": 50}},
    "variants": {
        "gaussian": {"prior": {"name": "gaussian"}, "draw_samples": {"sampler": {"name": "ancestral"}}},
        "tempered": {},
    },
    "tables": {"main": {"metrics": ["fd", "extent"]}},
    "figures": {"lengths": ["gaussian", "tempered"]},
}


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the project with a file and a line for each of the additions, and a study that uses them all."""
    space = Workspace(tmp_path_factory.mktemp("extended"))
    catalogue = space.read(CATALOGUE)
    for kind, (name, registered, text) in ADDITIONS.items():
        target = registered[0] if kind == "figure" else registered
        file = space.folder.joinpath(*target.split(":")[0].split(".")).with_suffix(".py")
        assert not file.exists()
        file.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
        start = "FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {\n" if kind == "figure" else f'    "{kind}": {{\n'
        assert start in catalogue
        catalogue = catalogue.replace(start, f'{start}    "{name}": {registered!r},\n')
    (space.folder / CATALOGUE).write_text(catalogue, encoding="utf-8")
    space.write_params({"default_studies": ["extended"], "extended": STUDY})
    return space


def test_parameters_know_what_was_added_and_check_it(extended):
    listed = extended.run("jebm", "list").stdout
    for folder in ("data/stripes", "train_backbone/extended-thin", "train_prior/extended-quadratic"):
        assert folder in listed
    study = deepcopy(STUDY)
    study["prior"]["energy"]["only"] = [3]
    assert "prior.energy.only: is [3]; allowed are 'all'" in complaint(extended, study)
    study = deepcopy(STUDY)
    study["draw_samples"]["sampler"] = {"name": "ancestral"}
    assert (
        "can't draw from the prior 'tempered', only from gaussian, mixture, flow and aggregate-posterior"
        in complaint(extended, study)
    )
    study = deepcopy(STUDY)
    study["tables"]["main"]["metrics"] = ["extend"]
    assert "did you mean 'extent'?" in complaint(extended, study)


def complaint(space: Workspace, study: dict) -> str:
    """What is said of a study with a mistake."""
    file = space.folder / "mistaken.yaml"
    file.write_text(json.dumps({"default_studies": ["extended"], "extended": study}), encoding="utf-8")
    done = space.run("jebm", "--params", file.name, "list", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.slow
def test_what_was_added_runs_through_the_pipeline(extended):
    extended.run("snakemake", "--cores", "2")
    assert "extent" in extended.read("results/extended/tables/main.md")
    assert (extended.folder / "results/extended/figures/lengths.png").stat().st_size > 0
