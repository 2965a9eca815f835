"""What an installation downloads, and what is told to those who cite the project."""

import re
from importlib.metadata import distributions
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CUDA = re.compile(re.search(r"^CUDA := (.*)$", MAKEFILE, re.MULTILINE)[1])


def test_without_cuda_nothing_is_left_out_that_another_package_needs():
    """Only torch's CUDA wheels, and CUDA's packages themselves, require what `make install CPU_INDEX=…` leaves out."""
    needed_by = {}
    for distribution in distributions():
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if CUDA.match(requirement.name) and "extra" not in str(requirement.marker):
                needed_by.setdefault(distribution.name.lower(), []).append(requirement.name)
    assert all(name == "torch" or CUDA.match(name) for name in needed_by), needed_by


def test_the_locked_packages_of_cuda_are_left_out():
    names = [line.split("==")[0] for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()]
    left_out = {name for name in names if CUDA.match(name)}
    assert {"nvidia-cudnn-cu13", "triton", "cuda-toolkit"} <= left_out
    assert not {name for name in names if "cuda" in name or "nvidia" in name} - left_out
    assert "torch" not in left_out


def test_the_citation_names_the_paper_and_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert citation["preferred-citation"]["identifiers"][0]["value"] == "arXiv:2306.06323"


def test_the_public_checks_run_what_the_project_runs():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert ".ci/run" in [step.get("run") for step in jobs["checks"]["steps"]]
    assert any("jebm diff" in step.get("run", "") for step in jobs["results"]["steps"])
