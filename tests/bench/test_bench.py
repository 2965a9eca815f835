"""`jebm bench` as a user calls it, on a tiny study of the digits' shape and on the CIFAR-10 one made small."""

import csv
import subprocess
import sys

import pytest
import toy
import yaml

from jebm.cli import main as cli

CHAIN = {"kernel": {"name": "langevin", "step_size": 0.1}, "steps": 4, "space": "z"}
JOINT = {
    "backbone": {"name": "convolutional", "latent_dims": [4, 3], "channels": [6, 5], "hidden": 8},
    "train_joint": {
        "method": "mcmc", "steps": 20, "batch_size": 6, "learning_rate": 1e-4, "energy_learning_rate": 1e-4,
        "chain": CHAIN, "posterior_chain": {**CHAIN, "gradients": "closed-form"},
    },
}  # fmt: skip


def write_params(folder, changes=None):
    content = toy.params({"toy/variants/by-mcmc": JOINT} | (changes or {}))
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """``jebm bench`` in a folder of its own, in this process; its exit status and what it says on standard error."""

    def call(*arguments, changes=None):
        write_params(tmp_path, changes)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["jebm", "bench", *arguments])
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.setenv(name, "1")
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr().err

    return call


def rows(folder, name="bench"):
    with open(folder / "results/toy" / f"{name}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_measures_what_the_variants_do(tmp_path):
    write_params(tmp_path)
    command = [sys.executable, "-m", "jebm", "bench", "toy", "--seconds", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {(row["variant"], row["what"]): row for row in rows(tmp_path)}
    for variant, what in [
        ("gaussian", "stage 1 step"),  # the others share it
        ("gaussian", "samples"),
        ("joint", "stage 2 step"),
        ("joint", "prior chain step"),
        ("joint", "prior chain step, closed form"),
        ("joint-k40", "samples"),
        ("by-mcmc", "joint step"),
        ("by-mcmc", "posterior chain step, closed form"),
    ]:
        row = found[variant, what]
        assert float(row["seconds_each"]) * float(row["per_second"]) == pytest.approx(1)
        assert float(row["peak_mib"]) > 50
        assert row["device"]
    assert ("joint", "stage 1 step") not in found
    joint = found["by-mcmc", "joint step"]
    hours = float(joint["seconds_each"]) * 20 / 3600
    assert float(joint["hours"]) == pytest.approx(hours * 6 / int(joint["batch"]), rel=1e-6)
    assert float(joint["speed_up"]) > 0
    assert found["joint", "stage 2 step"]["speed_up"] == ""  # a Crank–Nicolson chain has no plain transcription
    table = (tmp_path / "results/toy/bench.md").read_text(encoding="utf-8")
    assert "| by-mcmc" in table
    assert table in done.stdout
    assert joint["device"] in table


def test_sweep_varies_one_thing_at_a_time(tmp_path, bench):
    status, said = bench("toy", "--variant", "by-mcmc", "--seconds", "1", "--shape", "3,8,8", "--sweep")
    assert status == 0, said
    points = {(row["axis"], int(row["value"])) for row in rows(tmp_path, "scaling")}
    assert points == {
        *(("batch", n) for n in (3, 6, 12)),
        *(("chain steps", n) for n in (2, 4, 8)),
        *(("layers", n) for n in (1, 2, 4)),
        *(("image size", n) for n in (4, 8, 16)),
    }


DEEP = {
    "toy/dataset": {"name": "images", "source": {"name": "folder", "path": "nowhere"}, "size": 8, "test_count": 4},
    "toy/features": {"name": "identity"},
    "toy/backbone": {
        "name": "nvae", "layers_per_scale": [2, 1], "latent_channels": 1, "encoder_channels": 8, "decoder_channels": 8,
        "preprocess_cells": 1, "postprocess_cells": 1, "encoder_cells": 1, "decoder_cells": 1,
        "likelihood": {"name": "nvae-logistic-mixture", "components": 2},
    },
    "toy/train_backbone": None,
    "toy/import_backbone": {"format": "nvae", "checkpoint": "nowhere.pt"},
    "toy/prior": {"name": "ebm", "energy": {"name": "convolutional", "channels": 2, "hidden": 4}},
    "toy/train_prior": {
        "steps": 10, "batch_size": 2, "learning_rate": 1e-3,
        "estimator": {
            "name": "short-run", "kernel": {"name": "pcnl", "step_size": 0.3, "adjusted": True}, "steps": 2,
            "adaptation_steps": 5,
        },
    },
    "toy/draw_samples": {
        "count": 2,
        "sampler": {
            "name": "mcmc", "kernel": {"name": "pcnl", "step_size": 0.3, "adjusted": True}, "steps": 2,
            "step_size": "adapted",
        },
    },
    "toy/variants": {"ours": {}},
    "toy/tables": {},
    "toy/figures": {},
}  # fmt: skip
"""A study of pictures on an imported deep backbone, of which neither data nor checkpoint are there."""


def test_imported_deep_hierarchies_need_neither_data_nor_checkpoint(tmp_path, bench):
    status, said = bench("toy", "--seconds", "0", changes=DEEP)
    assert status == 0, said
    assert {row["what"] for row in rows(tmp_path)} == {"stage 2 step", "prior chain step", "samples"}


def test_overrides_are_laid_over_each_variant_and_named(tmp_path, bench):
    override = "{backbone: {checkpointing: true, layers_per_scale: [1, 1]}, train_prior: {batch_size: 1}}"
    status, said = bench("toy", "--seconds", "0", "--set", override, "--output", "smaller", changes=DEEP)
    assert status == 0, said
    assert not (tmp_path / "results/toy/bench.md").exists()
    assert {row["batch_of_study"] for row in rows(tmp_path, "smaller") if "samples" not in row["what"]} == {"1"}
    assert f"with `{override}` laid over each variant" in (tmp_path / "results/toy/smaller.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy", "--set", "{backbone: {layers_per_scale: [2]}}"], "--set: comes with --output"),
        (["toy", "--set", "{backbone: {hiden: 2}}", "--output", "a"], "variant 'gaussian': backbone.hiden: unknown"),
        (["toy", "--set", "backbone", "--output", "a"], "must be a block of overrides"),
        (["toy", "--set", "{a: {}", "--output", "a"], "not valid YAML"),
        (["toy", "--set", "{}", "--output", "../a"], "--output: '../a' must be letters"),
        (["tiy"], "there is no study 'tiy'; did you mean 'toy'? allowed: toy"),
        (["toy", "--variant", "jiont"], "has no variant 'jiont'"),
        (["toy", "--shape", "3x8x8"], "--shape: '3x8x8' must be whole numbers"),
        (["toy", "--device", "cuda:9"], "--device: 'cuda:9' can't be used"),
        (["toy", "--sweep"], "--sweep is of one variant"),
        (["toy", "--variant", "by-mcmc", "--shape", "3,8,9"], "backbone.channels"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, bench, arguments, message):
    status, said = bench(*arguments)
    assert status != 0
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "results").exists()


def test_a_device_that_is_not_here_is_replaced_and_named(tmp_path, bench):
    compute = {"toy/compute": {"device": "cuda:9", "precision": "bf16"}}
    status, said = bench("toy", "--variant", "gaussian", "--seconds", "0", changes=compute)
    assert status == 0, said
    assert "device 'cuda:9', which is not here; measuring on the CPU" in said
    assert {row["precision"] for row in rows(tmp_path)} == {"bf16"}
