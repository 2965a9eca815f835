"""dvc.yaml tracks the folder of each rule apart, so that one can pull checkpoints without samples."""

from pathlib import Path

import yaml

from jebm.pipeline.stages import KINDS, REPORTS

DVC = yaml.safe_load((Path(__file__).resolve().parents[2] / "dvc.yaml").read_text(encoding="utf-8"))


def test_every_rule_has_an_output_of_its_own():
    outputs = {path for entry in DVC["stages"]["reproduce"]["outs"] for path in entry}
    folders = {f"runs/{rule}" for rule in (*KINDS, *REPORTS) if rule != "prepare_dataset"}
    assert {path for path in outputs if path.startswith("runs/")} == folders
    assert {"assets", "data"} <= outputs


def test_no_output_is_deleted_before_snakemake_looks_at_it():
    assert all(options["persist"] for entry in DVC["stages"]["reproduce"]["outs"] for options in entry.values())
