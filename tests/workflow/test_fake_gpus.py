"""Several jobs on a machine with two GPUs, through the real rules: no two see one GPU at a time."""

import json

import pytest
from fake_gpus import on_gpus, shared

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("limit", [2, 3])
def test_jobs_share_no_gpu(new_tiny, tmp_path, monkeypatch, limit):
    """Within the limit of the run, and where it promises more GPUs than there are: then a job waits."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "locks"))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for name in ("locks", "copy"):
        (tmp_path / name).mkdir()
    space = new_tiny(tmp_path / "copy")
    targets = on_gpus(space, 3)
    space.run("snakemake", "--cores", "4", "--resources", f"gpu={limit}", "--", *targets)
    seen = [json.loads(space.read(target)) for target in targets]
    assert {job["gpus"] for job in seen} == {"4", "7"}
    assert shared(seen) == []
