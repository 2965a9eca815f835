"""A Kubernetes Job that runs one study, as Slurm's pilot does: Snakemake and all its jobs in one pod on one volume.

The volume holds a checkout of this repository; results, logs and unfinished trainings stay there. A pod that is evicted
or told to stop saves the states of its trainings and ends with status 75; the Job then starts another, which goes on.
"""

import re
from collections.abc import Iterable

from jebm.errors import JebmError
from jebm.pipeline.jobs import Job
from jebm.pipeline.resources import REPORT_REQUEST, request
from jebm.pipeline.stages import REPORTS

PREEMPTED = 75
"""Exit status of a run that was told to stop and can go on."""
GRACE_SECONDS = 120
"""Time between SIGTERM and SIGKILL: one training step and the saving of its state must fit into it."""
OVERHEAD = 2000
"""Memory of Snakemake and of the process from which jobs are forked, MiB. The pod has it on top of the jobs' memory,
since Kubernetes kills what exceeds its limit."""
FOLDER = "/study"
"""Where the volume is mounted."""


def manifest(
    study: str,
    jobs: Iterable[Job],
    image: str,
    claim: str,
    *,
    cpus: int = 8,
    gpus: int | None = None,
    memory: int | None = None,
    restarts: int = 20,
    queue: str = "",
) -> dict:
    """The manifest of a ``batch/v1`` Job, as nested dictionaries.

    Args:
        study: the target of Snakemake.
        jobs: the study's jobs, from which ``gpus`` and ``memory`` are chosen where they are None.
        image: the container image, made from containers/Dockerfile.
        claim: the PersistentVolumeClaim with the checkout.
        memory: of all jobs that run at a time, MiB.
        restarts: number of pods that may fail or be told to stop before the Job counts as failed.
        queue: a queue of Kueue, if the cluster has one.

    Raises:
        JebmError: a job needs more than the pod would have.
    """
    asked = [request(job) for job in jobs if job.rule not in REPORTS]
    if not asked:
        raise JebmError(f"{study} has no jobs")
    needed = max(one.gpus for one in asked)
    gpus = needed if gpus is None else gpus
    threads = max(one.threads for one in asked)
    at_a_time = max(gpus, 1) if needed else max(cpus // threads, 1)
    largest = max(REPORT_REQUEST["mem_mb"], *(one.mem_mb for one in asked))
    memory = largest * at_a_time if memory is None else memory
    for name, has, needs in (("--cpus", cpus, threads), ("--gpus", gpus, needed), ("--memory", memory, largest)):
        if has < needs:
            raise JebmError(f"{name}: {has} is less than the {needs} that a job of {study} asks for")
    amounts = {"cpu": str(cpus), "memory": f"{memory + OVERHEAD}Mi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    container = {
        "name": "study",
        "image": image,
        # bash replaces no process here: the script receives SIGTERM and waits until all states are saved.
        "command": ["bash", "workflow/pilot.sh", study],
        "workingDir": FOLDER,
        "env": [
            {"name": "PYTHONPATH", "value": FOLDER},
            {"name": "JEBM_CORES", "value": str(cpus)},
            {"name": "JEBM_LIMITS", "value": f"mem_mb={memory} gpu={gpus}"},
        ],
        # Equal requests and limits: Kubernetes refuses GPUs without a limit, and evicts other pods first.
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [{"name": "study", "mountPath": FOLDER}, {"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [container],
        "volumes": [
            {"name": "study", "persistentVolumeClaim": {"claimName": claim}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": f"{max(memory // 4, 64)}Mi"}},
        ],
    }
    if gpus:  # nodes with GPUs often refuse pods that do not ask for them
        pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    labels = {"app": "jebm"} | ({"kueue.x-k8s.io/queue-name": queue} if queue else {})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"jebm-{re.sub('[^a-z0-9]+', '-', study.lower()).strip('-')}", "labels": labels},
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": restarts,
            "podFailurePolicy": {
                "rules": [
                    # An eviction or a lost node costs no restart; a stop that saved its state costs one, and so does a
                    # kill (137), for want of memory or by the node; anything else is a failure that another pod would
                    # repeat.
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "Count", "onExitCodes": _exits("In", PREEMPTED)},
                    {"action": "FailJob", "onExitCodes": _exits("NotIn", PREEMPTED, 137)},
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _exits(operator: str, *values: int) -> dict:
    return {"containerName": "study", "operator": operator, "values": list(values)}
