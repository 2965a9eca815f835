"""The image studies in smoke size: the real blocks of params.yaml with fewer and smaller of everything.

``python tests/smoke.py FOLDER STUDY`` writes a copy of the project with synthetic archives, in which
``snakemake --cores 2 STUDY`` goes from raw archives to tables and figures within a minute. It shows how everything
hangs together, and its numbers mean nothing.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import archives
from tiny_inception import save_tiny_inception

MAKERS = {
    "cifar10": lambda root: archives.cifar10(root, train=100, test=40),
    "svhn": lambda root: archives.svhn(root, train=100, test=40),
    "celeba": lambda root: archives.celeba(root, train=100, validation=10, test=40),
    "mnist": lambda root: archives.mnist(root, train=300, test=100),
    "inception": lambda root: inception(root),
}
"""Source, or the network of the FID, → what writes its synthetic files and returns their entries under ``assets``."""
NEEDS = {
    "cifar10": ("cifar10", "inception"),
    "svhn": ("svhn", "inception"),
    "celeba64": ("celeba", "inception"),
    "mnist_anomaly": ("mnist",),
    "ood": ("cifar10", "svhn", "celeba", "inception"),
}
"""Study → what it needs from outside."""

SEEDS = {"mnist_anomaly": [1]}
"""Study → its seeds, where two would take more than a minute: five digits are five data sets."""

SMALL: dict[str, Any] = {
    "compute": {"device": "cpu"},
    "batch_size": 10,
    "warmup_steps": 1,
    "learning_rate": 2.0e-3,
    "energy_learning_rate": 2.0e-3,
    "validation_count": 10,
    "ood_count": 30,
    "count": 40,
    "keep_latents": 30,
    "importance_samples": 3,
    "partition_samples": 200,
    "draws": 2,
}
"""Key → its value wherever it stands (not null and not 0) in a study of smoke size."""
STEPS = 24
"""Of every training."""
TRAINING = ("train_backbone", "train_prior", "train_joint", "features")


def smoke(params: dict, study: str) -> dict:
    """The parameter file with one image study alone, and those it extends, in smoke size.

    All variants, tables and figures are kept, and so are the chains' and energies' proportions: a tenth of the steps
    and of the units.
    """
    kept, name = {}, study
    while name:
        kept[name] = _small(params[name])
        name = params[name].get("extends")
    top = {key: params[key] for key in ("runtime", "assets") if key in params}
    for block in kept.values():
        block["seeds"] = SEEDS.get(study, [1, 2])
        if "backbone" in block and block["backbone"].get("name") == "convolutional":
            block["backbone"]["inference_features"] = 16
    return {"default_studies": [study], **top, **dict(reversed(kept.items()))}


def _small(value: Any, key: str = "", within: str = "") -> Any:
    if key in SMALL and value:
        return SMALL[key]
    if isinstance(value, dict):
        if "batch_size" in value and "steps" in value:
            value = {**value, "log_every": 2}
        return {k: _small(v, k, key if key in TRAINING else "") if k not in ("tables", "figures") else v
                for k, v in value.items()}  # fmt: skip
    if key == "steps":
        return (4 if within == "features" else STEPS) if within else -(-value // 10)
    if key in ("snapshots", "snapshot_every"):
        return 3
    if key == "hidden":
        return [-(-units // 10) for units in value] if isinstance(value, list) else -(-value // 10)
    if key in ("latent_dims", "channels"):
        return [-(-size // (8 if key == "latent_dims" else 64)) for size in value]
    if key == "detection_samples" and value:
        return 2
    return value


def make_assets(root: Path, study: str) -> dict:
    """Write the synthetic files of a study below ``root/assets``; returns their entries under ``assets``."""
    return {name: entry for need in NEEDS[study] for name, entry in MAKERS[need](root).items()}


def inception(root: Path) -> dict:
    content = save_tiny_inception(root / "assets" / "inception").read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    file = "inception/inception-2015-12-05.pt"
    return {"inception": {"file": file, "url": None, "bytes": len(content), "digest": digest}}


def prepare(space: Any, study: str) -> None:
    """Make a copy of the project (``tests/workflow/conftest.py``) ready to run a study in smoke size."""
    params = smoke(space.params(), study)
    params["assets"] = params.get("assets", {}) | make_assets(space.folder, study)
    space.write_params(params)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent / "workflow"))
    from conftest import Workspace

    folder, study = Path(sys.argv[1]).resolve(), sys.argv[2]
    folder.mkdir(parents=True)
    prepare(Workspace(folder), study)
    print(f"cd {folder} && PYTHONPATH=. snakemake --cores 2 {study}")
