"""A workflow profile replaces profiles/default, so each of them repeats its settings."""

from pathlib import Path

import pytest
import yaml

from jebm.pipeline.workflow import SIGNAL

ROOT = Path(__file__).parents[2]
LOCAL_ONLY = {"resources"}
"""The number of GPUs of this machine, which is another on a cluster."""


def profile(name: str) -> dict:
    return yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["slurm", "slurm-pilot"])
def test_a_profile_has_the_settings_of_the_default_one(name):
    common = {key: value for key, value in profile("default").items() if key not in LOCAL_ONLY}
    assert {key: profile(name).get(key) for key in common} == common


def test_no_cluster_profile_limits_what_a_job_asks_for():
    for name in ("slurm", "slurm-pilot"):
        assert "resources" not in profile(name)


def test_the_signal_ahead_of_the_wall_time_is_the_same_everywhere():
    assert f"slurm_extra=\"'{SIGNAL}'\"" in profile("slurm")["default-resources"]
    assert SIGNAL.replace("=", "=B:") in (ROOT / "workflow/pilot.sh").read_text(encoding="utf-8")


def test_every_program_of_the_extra_is_in_the_lock():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for requirement in extras["slurm"]:
        name = requirement.split("=")[0].split(">")[0]
        assert f"\n{name}==" in lock
