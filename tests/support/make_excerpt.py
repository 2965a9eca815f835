"""Writes excerpt.safetensors and published_keys.json from the full reference files.

python tests/support/make_excerpt.py oracle.pt published_keys.json.gz
"""

import gzip
import hashlib
import json
import sys
from pathlib import Path

import torch

from jebm.io.tensors import write_tensors

HERE = Path(__file__).parents[1] / "models" / "nvae"
MODULES = ("enc_tower.6", "nf_cells.0", "enc_tower.9", "enc_sampler.1", "dec_sampler.0", "dec_tower.4")
"""A halving cell, a flow, a combiner, a posterior, a prior, a doubling cell."""
ACTIVATIONS = (
    "enc_tower.4", "enc_tower.6", "enc_tower.8", "enc_tower.9", "dec_tower.2", "dec_tower.3",
    "dec_tower.4", "enc_sampler.1", "dec_sampler.0",
)  # fmt: skip
STRESS = ("dml_M5_bits5", "normal", "latent")
TRAIN = ("alpha", "kl_coeffs", "kl_vals", "balanced_kl")


def digest(shapes):
    """Identifies keys, shapes and their order."""
    lines = "\n".join(f"{key} {list(shape)}" for key, shape in shapes.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def excerpt(oracle):
    """One image of what a few modules of the case ``main`` took in and gave out, and the distributions."""
    main, first = oracle["main"], slice(0, 1)
    weights = {
        f"weights/{key}": value
        for key, value in main["state_dict"].items()
        if key.startswith(tuple(f"{name}." for name in MODULES)) and not key.endswith("weight_normalized")
    }
    shown = {f"activation/{name}": main["eval"]["activations"][name][first] for name in ACTIVATIONS}
    for name in ("q_mu", "q_sigma", "p_mu", "p_sigma", "z_preflow", "z_list"):
        shown |= {f"{name}/{k}": main["eval"][name][k][first] for k in (0, 1)}
    for name in STRESS:
        case = oracle["_stress"][name]
        shown |= {f"{name}/{key}": value[first] for key, value in case.items() if torch.is_tensor(value)}
    train = oracle["bernoulli_mnist"]["train"]
    shown |= {f"train/{name}": train[name] for name in TRAIN}
    shown["train/kl"] = torch.stack(train["kl_all"], 1)
    header = {"args": main["args"], "groups": oracle["bernoulli_mnist"]["groups_per_scale"], "kl_coeff": 0.4}
    return {name: value.clone() for name, value in (weights | shown).items()}, header


def main(oracle, keys):
    tensors, header = excerpt(torch.load(oracle, weights_only=True))
    write_tensors(HERE / "excerpt.safetensors", tensors, header)
    with gzip.open(keys) as file:
        full = json.load(file)
    recipes = {
        name: {"args": recipe["args"], "keys": recipe["n_keys"], "parameters": recipe["n_params"],
               "digest": digest(recipe["keys"])}
        for name, recipe in full.items()
    }  # fmt: skip
    (HERE / "published_keys.json").write_text(json.dumps(recipes, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
