"""What the Snakefile needs: the jobs, which results are fresh, and what happens before the first job."""

import os
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from jebm.config.assets import ASSETS
from jebm.config.messages import unknown
from jebm.config.read import read_params
from jebm.errors import JebmError
from jebm.io.digests import DigestCache
from jebm.pipeline.assets import inventory, refuse_wrong
from jebm.pipeline.code_digest import save_scans
from jebm.pipeline.freshness import Status, statuses
from jebm.pipeline.jobs import Job, all_jobs, missing_outside
from jebm.pipeline.results import LOCKS, keep_all
from jebm.pipeline.stages import DATA, KINDS, REPORTS, RUNS
from jebm.pipeline.stamps import write_stamps
from jebm.pipeline.study import make_plan

PLANNED = "JEBM_WORKFLOW"
"""Environment variable that tells jobs that a workflow has planned them: it names the workflow's folder."""


class Workflow:
    """The parameters and their jobs. Snakemake reads the Snakefile again for jobs on a cluster; only the process that
    plans the jobs decides what is fresh and writes stamps.

    Raises:
        ParamsError: there is a mistake in the parameters.
    """

    def __init__(self) -> None:
        self.params = read_params()
        self.plans = make_plan(self.params)
        self._of_study = {name: all_jobs([plan]) for name, plan in self.plans.items()}
        self.jobs: dict[tuple[str, str], Job] = {}
        for own in self._of_study.values():
            for key, job in own.items():
                self.jobs.setdefault(key, job)  # studies may share a job
        self._by_id = {
            (job.parameters["id"], job.parameters["seed"]): job for job in self.jobs.values() if "id" in job.parameters
        }
        self.planning = PLANNED not in os.environ
        os.environ[PLANNED] = str(Path.cwd())
        self.statuses = self._decide() if self.planning else {}
        self._makers = {path: status for status in self.statuses.values() for path in status.job.outputs}
        self._lock = FileLock(LOCKS / "workflow.lock")

    def _decide(self) -> dict[tuple[str, str], Status]:
        digests = DigestCache()
        found = statuses(self.jobs.values(), digests)
        write_stamps((status.job, status.fresh) for status in found)
        digests.save()
        save_scans(job.entries for job in self.jobs.values())
        return {(status.job.rule, status.job.name): status for status in found}

    def stage_job(self, id: str, seed: int | None) -> Job:
        """The job of a stage, by the identity and the seed in its path.

        Raises:
            JebmError: there is no such job.
        """
        if (id, seed) not in self._by_id:
            raise JebmError(f"no study of the parameters has a stage {id} with seed {seed}; `jebm list` shows them all")
        return self._by_id[id, seed]

    def report_job(self, rule: str, name: str) -> Job:
        """The job of a rule that writes to results/, by its name such as ``digits/main``.

        Raises:
            ParamsError: there is no such job.
        """
        if (rule, name) not in self.jobs:
            raise unknown(f"{rule} has no job '{name}'", name, [known for of, known in self.jobs if of == rule])
        return self.jobs[rule, name]

    def inputs(self, job: Job, role: str) -> list[str]:
        """The input files of a job in a role, as Snakemake is to see them.

        Missing files of the user are left out: the job reports them, since it knows the parameter that names them. A
        fresh result does not wait for missing or damaged inputs.
        """
        absent = missing_outside(job)
        status = self.statuses.get((job.rule, job.name))
        if status and status.fresh:
            absent += [path for path in job.input_files if self.has_to_be_made(path)]
        return [path for path in dict.fromkeys(job.inputs.get(role, ())) if path not in absent]

    def has_to_be_made(self, path: str) -> bool:
        """Whether the job that makes a file must run."""
        return path in self._makers and not self._makers[path].fresh

    def targets(self, study: str) -> list[str]:
        """All files of a study. They include intermediate files, because Snakemake does not make a missing one
        otherwise."""
        return sorted(path for job in self._of_study[study].values() for path in job.outputs)

    def rendered(self, studies: Iterable[str], what: str) -> list[str]:
        """The files of all tables or figures of some studies."""
        jobs = [job for study in studies for job in self._of_study[study].values()]
        return [path for job in jobs if job.rule == f"render_{what}" for path in job.outputs]

    def assets(self, studies: Iterable[str]) -> list[str]:
        """The external files that studies need, after printing which of them exist.

        Raises:
            JebmError: a file in place is another one.
        """
        needed = {name: self.plans[study].assets[name] for study in studies for name in self.plans[study].asset_names()}
        if self.planning:
            digests = DigestCache()
            print(inventory(needed, digests))
            digests.save()
            refuse_wrong(needed, digests)
        return [str(asset.path) for asset in needed.values()]

    def begin(self) -> None:
        """Before the first job: lock the folder against other workflows, and keep finished results.

        The lock belongs to the kernel and ends with this process: nothing has to be unlocked after a kill of Snakemake.

        Raises:
            JebmError: another workflow runs in this folder.
        """
        LOCKS.mkdir(parents=True, exist_ok=True)
        for folder in (ASSETS, DATA, *(RUNS / rule for rule in (*KINDS, *REPORTS) if rule != "prepare_dataset")):
            folder.mkdir(parents=True, exist_ok=True)  # DVC requires all of them, even if no study uses them
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise JebmError("another Snakemake is running in this folder; let it finish, or stop it first") from None
        digests = DigestCache()
        keep_all([status.job for status in self.statuses.values() if not status.fresh], digests)
        digests.save()
