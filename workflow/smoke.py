"""Small versions of the image studies, to test the whole pipeline: the blocks of params.yaml with small sizes.

``PYTHONPATH=tests/support python workflow/smoke.py FOLDER STUDY``, which ``make smoke`` calls, writes a copy of the
project with synthetic archives. There ``snakemake --cores 2 STUDY`` goes from raw archives to tables and figures within
a minute. The resulting numbers have no meaning.
"""

import hashlib
import math
import sys
from pathlib import Path
from typing import Any

import archives
from tiny_inception import save_tiny_inception
from tiny_nvae import save_tiny_nvae

from jebm.config.read import parse_params

MAKERS = {
    "cifar10": lambda root: archives.cifar10(root, train=100, test=40),
    "svhn": lambda root: archives.svhn(root, train=100, test=40),
    "celeba": lambda root: archives.celeba(root, train=100, validation=10, test=40),
    "mnist": lambda root: archives.mnist(root, train=300, test=100),
    "inception": lambda root: inception(root),
    "celebahq": lambda root: without_assets(archives.folder(root / "assets/celebahq256", 80, 64, 64)),
    "church": lambda root: without_assets(archives.lsun(root / "assets/lsun/church_outdoor_train_lmdb", 80, 40, 48)),
}
"""Source, or the network of the FID → function that writes its synthetic files and returns their entries under
``assets``."""
NEEDS = {
    "cifar10": ("cifar10", "inception"),
    "svhn": ("svhn", "inception"),
    "celeba64": ("celeba", "inception"),
    "mnist": ("mnist",),
    "mnist_anomaly": ("mnist",),
    "ood": ("cifar10", "svhn", "celeba", "inception"),
    "cifar10_deep": ("cifar10", "inception"),
    "celebahq256": ("celebahq", "inception"),
    "church64": ("church", "inception"),
    "cifar10_deep_scratch": ("cifar10", "inception"),
    "celebahq256_scratch": ("celebahq", "inception"),
    "church64_scratch": ("church", "inception"),
}
"""Study → the external files that it needs, besides a checkpoint to import."""

NVAE: dict[str, dict[str, Any]] = {
    "cifar10_deep": {"layers_per_scale": [4]},
    "celebahq256": {"layers_per_scale": [1, 1, 1, 1, 1]},
    "church64": {"layers_per_scale": [2, 1, 1]},
}
"""Study with a deep backbone (and its ``_scratch``) → latent layers at each scale in smoke size."""
SIZES = {"celebahq256": 32, "church64": 32}
"""Study → size of its images in smoke size, where it is not the real one."""
TINY = {"latent_channels": 2, "encoder_channels": 4, "decoder_channels": 4, "preprocess_cells": 1,
        "postprocess_cells": 1, "encoder_cells": 1, "decoder_cells": 1}  # fmt: skip
"""Every deep backbone, in smoke size."""

SEEDS = {"mnist": [1], "mnist_anomaly": [1]} | {study: [1] for study in NEEDS if study.removesuffix("_scratch") in NVAE}
"""Study → its seeds, where two would take too long: five digits are five data sets; others have many variants."""

SMALL: dict[str, Any] = {
    "compute": {"device": "cpu"},
    "batch_size": 10,
    "warmup_steps": 1,
    "learning_rate": 2.0e-3,
    "energy_learning_rate": 2.0e-3,
    "validation_count": 10,
    "ema": 0.5,
    "test_count": 20,
    "ood_count": 30,
    "count": 40,
    "saved_latents": 30,
    "importance_samples": 3,
    "partition_samples": 200,
    "draws": 2,
}
"""Key → its value wherever it stands (not null and not 0) in a study of smoke size."""
ANNEALING = {"temperatures": 5, "chains": 20, "start_steps": 5}
"""Of log Z, unless a study has none."""
LABEL = "SMOKE SIZE, synthetic data: these numbers mean nothing."
"""Before the caption of every table."""
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
    top["presets"] = labelled(_small(params.get("presets", {})))
    for block in kept.values():
        block["seeds"] = SEEDS.get(study, [1, 2])
        for key in ("presets", "tables"):
            block[key] = labelled(block.get(key, {}))
        if "backbone" in block and block["backbone"].get("name") == "convolutional":
            block["backbone"]["inference_features"] = 16
    for name, block in kept.items():
        if name.removesuffix("_scratch") in NVAE:
            _shrink_deep(name.removesuffix("_scratch"), block, params)
    return {"default_studies": [study], **top, **dict(reversed(kept.items()))}


def labelled(blocks: dict) -> dict:
    """Tables, or presets for tables, with the label in their captions."""
    return {
        key: {**block, "caption": f"{LABEL} {block['caption']}"} if "caption" in block else block
        for key, block in blocks.items()
    }


def _shrink_deep(name: str, block: dict, params: dict) -> None:
    """Reduce the latent layers, and the layers with an energy in proportion."""
    sizes, before = NVAE[name], params[name]["backbone"]["layers_per_scale"]
    if "backbone" in block:
        block["backbone"] |= TINY | sizes
    if name in SIZES and "dataset" in block:
        block["dataset"]["size"] = SIZES[name]
    for variant in [*block.get("variants", {}).values(), *block["presets"].values()]:
        energy = variant.get("prior", {}).get("energy", {})
        if isinstance(energy.get("layers"), list):
            share = sum(sizes["layers_per_scale"]) / sum(before)
            energy["layers"] = sorted({math.ceil(layer * share) for layer in energy["layers"]})


def _small(value: Any, key: str = "", within: str = "") -> Any:
    if key in SMALL and value:
        return SMALL[key]
    if key == "adaptation_steps":
        return min(value, STEPS // 2)
    if key == "evaluate_density" and "reference" in value and value.get("annealing", ...) is not None:
        value = {**value, "annealing": ANNEALING}
    if isinstance(value, dict):
        if key in TRAINING and {"batch_size", "learning_rate", "steps"} <= set(value):
            value = {**value, "log_interval": 2}
        return {k: _small(v, k, key if key in TRAINING else "") if k not in ("tables", "figures") else v
                for k, v in value.items()}  # fmt: skip
    if key == "steps" and isinstance(value, list):  # after which something is stored
        return sorted({-(-steps // 10) for steps in value})
    if key == "steps":
        return (4 if within == "features" else STEPS) if within else -(-value // 10)
    if key in ("snapshots", "snapshot_interval"):
        return 3
    if key == "hidden":
        return [-(-units // 10) for units in value] if isinstance(value, list) else -(-value // 10)
    if key == "channels" and not isinstance(value, list):
        return -(-value // 16)
    if key in ("latent_dims", "channels"):
        return [-(-size // (8 if key == "latent_dims" else 64)) for size in value]
    if key == "detection_samples" and value:
        return 2
    return value


def make_assets(root: Path, study: str) -> dict:
    """Write the synthetic files of a study below ``root/assets``; returns their entries under ``assets``."""
    return {name: entry for need in NEEDS[study] for name, entry in MAKERS[need](root).items()}


def without_assets(path: Path) -> dict:
    """Data that are named by their path."""
    assert path.exists()
    return {}


def inception(root: Path) -> dict:
    content = save_tiny_inception(root / "assets" / "inception").read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    file = "inception/inception-2015-12-05.pt"
    return {"inception": {"file": file, "url": None, "bytes": len(content), "digest": digest}}


def prepare(space: Any, study: str) -> None:
    """Make a copy of the project (``tests/support/workspace.py``) ready to run a study in smoke size."""
    params = smoke(space.params(), study)
    params["assets"] = params.get("assets", {}) | make_assets(space.folder, study)
    space.write_params(params)
    if study in NVAE:
        asset = params["assets"][params[study]["import_backbone"]["asset"]]
        block = next(iter(parse_params(params).studies[study].variants.values()))
        save_tiny_nvae(space.folder / "assets" / asset["file"], block.backbone, block.dataset.size)


if __name__ == "__main__":
    from workspace import Workspace

    folder, study = Path(sys.argv[1]).resolve(), sys.argv[2]
    folder.mkdir(parents=True)
    prepare(Workspace(folder), study)
    print(f"cd {folder} && PYTHONPATH=. snakemake --cores 2 {study}")
