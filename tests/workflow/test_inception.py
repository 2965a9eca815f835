"""FID, KID, precision and recall through the real pipeline, with a small network in the weights' place."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from cleanfid.fid import frechet_distance
from tiny_inception import NAME, save_tiny_inception

from jebm.config.assets import Asset
from jebm.features.extraction import extract
from jebm.features.inception import Inception
from jebm.io.tensors import read_tensors

METRICS = ["fid", "kid", "precision", "recall"]


def with_inception(params: dict) -> dict:
    """The tiny study with its distances in the Inception space."""
    params["assets"] = {"inception": {"file": f"inception/{NAME}"}}
    study = params["digits"]
    study["dataset"] |= {"validation_count": 1300, "test_count": 150}  # 347 are left to train on
    study["features"] = {"name": "inception", "weights": "inception"}
    study["evaluate_samples"] = {
        "reference": "train", "kernel_distance_subsets": 5, "kernel_distance_subset_size": 60, "batch_size": 50,
        "max_stored_features": 100,
    }  # fmt: skip
    study["draw_samples"] |= {"count": 120, "batch_size": 64, "saved_latents": 50, "sets": 2}
    study["variants"] = {name: study["variants"][name] for name in ("gaussian", "short-run")}
    study["headline"], study["tables"] = {}, {"main": {"variants": ["gaussian", "short-run"], "metrics": METRICS}}
    study["figures"] = {name: ["gaussian", "short-run"] for name in ("samples", "langevin-steps")}
    return params


@pytest.fixture(scope="module")
def study(workspace_factory):
    space = workspace_factory()
    space.write_params(with_inception(space.params()))
    save_tiny_inception(space.folder / "assets" / "inception")
    space.run("snakemake", "--cores", "2")
    return space


@pytest.fixture(scope="module")
def workspace_factory(new_tiny, tmp_path_factory):
    return lambda: new_tiny(tmp_path_factory.mktemp("inception"))


def only(space, pattern):
    (path,) = space.folder.glob(pattern)
    return path


def test_study_has_its_distances_with_a_protocol_that_says_what_they_are(study):
    frame = pd.read_csv(study.folder / "results/digits/metrics.csv")
    noise = {f"{metric}_noise" for metric in METRICS}
    assert {*METRICS, *noise} <= set(frame[frame.variant == "short-run"].metric)
    assert not {"fd", "kd"} & set(frame.metric)
    assert set(frame[frame.variant == "real-data"].metric) == set(METRICS)
    protocols = json.loads(study.read("results/digits/protocols.json"))
    facts = protocols[frame[(frame.variant == "gaussian") & (frame.metric == "fid")].protocol.iloc[0]]
    expected = {"mode": "clean", "reference": "train", "sample_count": 120, "images": "8 bit"}
    assert expected.items() <= facts.items()
    assert len(facts["weights_sha256"]) == len(facts["reference_sha256"]) == 64
    kid = protocols[frame[frame.metric == "kid"].protocol.iloc[-1]]
    assert (kid["subsets"], kid["subset_size"], kid["kept"], kid["reference_kept"]) == (5, 60, 100, 100)
    assert "FID" in study.read("results/digits/tables/main.md")
    assert "fid" in study.read("results/digits/plots/langevin-steps.csv").splitlines()[0]


def test_values_are_those_of_clean_fid_on_all_features_at_once(study):
    space = Inception((1, 8, 8), 10, weights=str(study.folder / "assets/inception" / NAME))
    images = read_tensors(only(study, "data/digits-*/images.safetensors"))[0]["train"]
    real = extract(space, images, 17, "cpu")[:, :16]
    frame = pd.read_csv(study.folder / "results/digits/metrics.csv")
    measured, noise = (
        sorted(frame[(frame.metric == metric) & (frame.variant != "real-data")].value)
        for metric in ("fid", "fid_noise")
    )
    found = []
    for path in study.folder.glob("runs/draw_samples/*/seed1/samples.safetensors"):
        for name in ("images", "images-2"):
            features = extract(space, read_tensors(path)[0][name], 17, "cpu")[:, :16]
            both = (torch.from_numpy(f) for f in (features, real))
            first, second = ((f.mean(0).numpy(), f.T.cov().numpy()) for f in both)
            found.append(frechet_distance(*first, *second))
    pairs = np.array(found).reshape(-1, 2)
    assert measured == pytest.approx(sorted(pairs.mean(1)), rel=1e-3)
    assert noise == pytest.approx(sorted(pairs.std(1, ddof=1)), rel=0.05)


def test_latents_are_kept_of_the_first_samples_only(study):
    for path in study.folder.glob("runs/draw_samples/*/seed1/samples.safetensors"):
        tensors, _ = read_tensors(path)
        assert {name: len(tensor) for name, tensor in tensors.items()} == {
            "images": 120, "images-2": 120, "eps": 50, "tilt": 50,
        }  # fmt: skip


def test_reference_is_measured_once_and_not_again_for_other_subsets_or_samples(study):
    def dry(change):
        before = study.read("params.yaml")
        params = yaml.safe_load(before)
        change(params["digits"])
        study.write_params(params)
        try:
            return study.run("snakemake", "-n", "--cores", "1").stdout
        finally:
            (study.folder / "params.yaml").write_text(before, encoding="utf-8")

    def fewer_subsets(block):
        block["evaluate_samples"]["kernel_distance_subsets"] = 4
        block["draw_samples"]["count"] = 110

    def other_split(block):
        block["evaluate_samples"]["reference"] = "test"

    assert len(list(study.folder.glob("runs/reference_statistics/*"))) == 1
    again = dry(fewer_subsets)
    assert "rule evaluate_samples" in again
    assert "rule reference_statistics" not in again
    assert "rule reference_statistics" in dry(other_split)


def test_another_network_is_other_features(study):
    path = study.folder / "assets/inception" / NAME
    before = path.read_bytes()
    save_tiny_inception(path.parent, varying=12)
    try:
        dry = study.run("snakemake", "-n", "--cores", "1").stdout
    finally:
        path.write_bytes(before)
    for rule in ("train_features", "reference_statistics", "evaluate_samples", "evaluate_floor"):
        assert f"rule {rule}:" in dry
    assert "rule train_backbone:" not in dry


def test_too_few_samples_and_missing_weights_end_in_one_line(study):
    weights = study.folder / "assets/inception" / NAME
    before = weights.read_bytes()
    try:
        save_tiny_inception(weights.parent, varying=200)
        remembered = Asset(file=f"inception/{NAME}").remembered  # no digest is published for it: the first one counts
        (study.folder / remembered).unlink()
        few = study.run("jebm", "run", "evaluate_floor", "digits", "--variant", "gaussian", check=False)
        weights.unlink()
        gone = study.run("jebm", "run", "evaluate_floor", "digits", "--variant", "gaussian", check=False)
    finally:
        weights.write_bytes(before)
        (study.folder / remembered).unlink(missing_ok=True)
    for done, message in [
        (few, "150 images are too few for a covariance of 200 features"),
        (gone, f"{weights.relative_to(study.folder)}: the asset 'inception' is missing"),
    ]:
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
