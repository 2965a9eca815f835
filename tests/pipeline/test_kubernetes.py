"""The manifest of a study: its amounts, its validity by Kubernetes' schema, and what is refused."""

import kubernetes_validate
import pytest
from toy_jobs import toy_jobs

from jebm.errors import JebmError
from jebm.pipeline import resources
from jebm.pipeline.kubernetes import OVERHEAD, manifest


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """An empty working folder in which no run is recorded."""
    monkeypatch.chdir(tmp_path)
    resources._runs.cache_clear()
    yield
    resources._runs.cache_clear()


def rendered(changes=None, **options) -> dict:
    return manifest("my_toy", toy_jobs(changes).values(), "jebm:1", "disk", **options)


def container(found: dict) -> dict:
    return found["spec"]["template"]["spec"]["containers"][0]


ON_TWO_GPUS = {"toy/compute": {"device": "cuda", "devices": 2}}


@pytest.mark.parametrize("changes", [None, ON_TWO_GPUS], ids=["CPU", "GPU"])
@pytest.mark.parametrize("queue", ["", "research"])
def test_it_is_valid_by_the_schema(changes, queue):
    kubernetes_validate.validate(rendered(changes, queue=queue), "1.37", strict=True)


def test_a_study_on_the_cpu_asks_for_no_gpu_and_for_the_memory_of_its_parallel_jobs():
    found = rendered(cpus=4)
    limits = container(found)["resources"]["limits"]
    assert set(limits) == {"cpu", "memory"}
    jobs = 4 * max(resources.REPORT_REQUEST["mem_mb"], *(
        resources.request(job).mem_mb for job in toy_jobs().values() if not job.rule.startswith(("collect", "render"))
    ))  # fmt: skip
    assert int(limits["memory"].removesuffix("Mi")) == jobs + OVERHEAD
    assert f"mem_mb={jobs} " in container(found)["env"][2]["value"]
    assert "tolerations" not in found["spec"]["template"]["spec"]
    assert found["metadata"]["name"] == "jebm-my-toy"


def test_gpus_are_requested_and_limited_alike():
    found = rendered(ON_TWO_GPUS)
    amounts = container(found)["resources"]
    assert amounts["requests"] == amounts["limits"]
    assert amounts["limits"]["nvidia.com/gpu"] == "2"
    limits = next(one["value"] for one in container(found)["env"] if one["name"] == "JEBM_LIMITS")
    assert limits.endswith("gpu=2")


@pytest.mark.parametrize(("option", "value"), [("gpus", 1), ("memory", 100), ("cpus", 1)])
def test_less_than_a_job_needs_is_refused(option, value):
    with pytest.raises(JebmError, match=f"--{option}: {value} is less than the "):
        rendered(ON_TWO_GPUS, **{option: value})
