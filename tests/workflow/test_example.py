"""The script of the documentation runs on the core study, here a tiny one, and prints what it promises."""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "docs/example.py"


def test_the_script_of_the_documentation(new_tiny, tmp_path):
    space = new_tiny(tmp_path)
    params = space.params()
    study = params["digits"]
    study["variants"] = {
        "gaussian": study["variants"]["gaussian"],
        "likelihood": study["variants"]["short-run-density"],
    }
    study |= {"tables": {}, "figures": {}, "headline": {}}
    space.write_params(params)
    space.run("snakemake", "--cores", "2")
    printed = space.run(sys.executable, str(SCRIPT)).stdout
    assert "2 layers of [16, 8] latent dimensions, JointPrior" in printed
    assert "samples (16, 1, 8, 8)" in printed
    assert printed.count("% accepted") == 2
