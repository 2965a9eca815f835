"""What the Snakefile needs: the jobs, which results are fresh, and what happens before the first job."""

import difflib
import os
import sys
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from jebm.config.assets import ASSETS
from jebm.config.messages import unknown
from jebm.config.read import RESERVED, read_params
from jebm.errors import JebmError, ParamsError
from jebm.io.digests import DigestCache
from jebm.pipeline.assets import inventory, refuse_wrong
from jebm.pipeline.code_digest import save_scans
from jebm.pipeline.freshness import Status, statuses
from jebm.pipeline.jobs import Job, all_jobs, missing_outside
from jebm.pipeline.preflight import refuse_impossible, refuse_missing_devices
from jebm.pipeline.resources import request
from jebm.pipeline.results import LOCKS, keep_all
from jebm.pipeline.stages import DATA, KINDS, REPORTS, RESULTS, RUNS
from jebm.pipeline.stamps import write_stamps
from jebm.pipeline.study import StudyPlan, make_plan

PLANNED = "JEBM_WORKFLOW"
"""Environment variable that tells jobs that a workflow has planned them: it names the workflow's folder."""
SIGNAL = "--signal=TERM@120"
"""What profiles/slurm passes to sbatch, too: SIGTERM two minutes ahead of the wall time."""


class Workflow:
    """The parameters and their jobs. Snakemake reads the Snakefile again for jobs on a cluster; only the process that
    plans the jobs decides what is fresh and writes stamps.

    Jobs are listed, and their results looked at, study by study when Snakemake asks for one of them: what is not asked
    for costs no time.

    Args:
        here: tells whether jobs run on this machine, not on those of a batch scheduler, which have other devices; None
            in a dry run, where this is not known.

    Raises:
        ParamsError: there is a mistake in the parameters.
    """

    def __init__(self, here: Callable[[], bool | None] = lambda: True) -> None:
        self._here = here
        self._checked: set[str] = set()
        self.params = read_params()
        self.plans = make_plan(self.params)
        self._jobs_of, self._stage_jobs_of = cache(self._list_jobs), cache(self._list_stage_jobs)
        self._studies_with: dict[str, list[str]] = {}
        for name, plan in self.plans.items():
            for id in dict.fromkeys(stage.id for variant in plan.variants.values() for stage in variant.all_stages()):
                self._studies_with.setdefault(id, []).append(name)
        self.planning = PLANNED not in os.environ
        os.environ[PLANNED] = str(Path.cwd())
        self._digests = DigestCache()
        self._decided: set[str] = set()
        self._statuses: dict[tuple[str, str], Status] = {}
        self._contents: dict[str, str | None] = {}
        self._makers: dict[str, Status] = {}
        self._requests: dict[tuple[str, str, int], dict[str, int | str]] = {}
        self._lock = FileLock(LOCKS / "workflow.lock")

    def _list_jobs(self, study: str) -> dict[tuple[str, str], Job]:
        return all_jobs([self.plans[study]])

    def _list_stage_jobs(self, study: str) -> dict[tuple[str, int | None], Job]:
        jobs = self._jobs_of(study).values()
        return {(job.parameters["id"], job.parameters["seed"]): job for job in jobs if "id" in job.parameters}

    @cached_property
    def jobs(self) -> dict[tuple[str, str], Job]:
        """The jobs of all studies. Studies may share a job; it belongs to the first of them."""
        found: dict[tuple[str, str], Job] = {}
        for study in self.plans:
            for key, job in self._jobs_of(study).items():
                found.setdefault(key, job)
        return found

    def _status(self, job: Job) -> Status | None:
        """What is known of a job's result; None in processes that do not plan jobs."""
        if self.planning and job.study not in self._decided:
            self._decided.add(job.study)
            own = [job for key, job in self._jobs_of(job.study).items() if key not in self._statuses]
            for status in statuses(own, self._digests, self._contents):
                self._statuses[status.job.rule, status.job.name] = status
                self._makers |= dict.fromkeys(status.job.outputs, status)
            write_stamps((each, self._statuses[each.rule, each.name].fresh) for each in own)
            self._digests.save()
            save_scans(each.entries for each in own)
        return self._statuses.get((job.rule, job.name))

    def stage_job(self, id: str, seed: int | None) -> Job:
        """The job of a stage, by the identity and the seed in its path.

        Raises:
            JebmError: there is no such job.
        """
        for study in self._studies_with.get(id, ()):
            if found := self._stage_jobs_of(study).get((id, seed)):
                return found
        raise JebmError(f"no study of the parameters has a stage {id} with seed {seed}; `jebm list` shows them all")

    def report_job(self, rule: str, name: str) -> Job:
        """The job of a rule that writes to results/, by its name such as ``digits/main``.

        Raises:
            ParamsError: there is no such job.
        """
        study = name.partition("/")[0]
        known = self._jobs_of(study) if study in self.plans else self.jobs
        if (rule, name) not in known:
            raise unknown(f"{rule} has no job '{name}'", name, [known for of, known in self.jobs if of == rule])
        return known[rule, name]

    def inputs(self, job: Job, role: str) -> list[str]:
        """The input files of a job in a role, as Snakemake is to see them.

        Missing files of the user are left out: the job reports them, since it knows the parameter that names them. A
        fresh result does not wait for missing or damaged inputs.

        Raises:
            ParamsError: the job must run, but settings of its study can't work.
        """
        absent = missing_outside(job)
        status = self._status(job)
        if status and not status.fresh and job.rule in KINDS and job.study not in self._checked:
            self._checked.add(job.study)
            self._refuse_impossible(self.plans[job.study])
        if status and status.fresh:
            absent += [path for path in job.input_files if self.has_to_be_made(path)]
        return [path for path in dict.fromkeys(job.inputs.get(role, ())) if path not in absent]

    def _refuse_impossible(self, plan: StudyPlan) -> None:
        refuse_impossible(plan)
        try:
            refuse_missing_devices(plan)
        except JebmError as error:
            if self._here():
                raise
            if self._here() is None:
                print(f"warning: {error}; a run on this machine will be refused", file=sys.stderr)

    def has_to_be_made(self, path: str) -> bool:
        """Whether the job that makes a file must run."""
        return path in self._makers and not self._makers[path].fresh

    def asks(self, job: Job, what: str, attempt: int, limit: int | None = None) -> int | str:
        """The value of one of Snakemake's resources for a job.

        Args:
            what: ``gpu``, ``mem_mb`` or ``runtime`` (minutes); ``gres`` or ``extra`` for GPUs as a text that Slurm
                understands.
            limit: the limit of this run, if there is one. A further attempt asks for no more than it.

        Raises:
            JebmError: the job needs more than the limit.
        """
        first, now = (self._request(job, number)[what] for number in (1, attempt))
        if limit is not None and first > limit:
            raise JebmError(
                f"{job.rule} {job.name}: asks for {what}={first}, but this run is limited to {limit}; "
                f"allow as much by --resources {what}={first}"
            )
        return now if limit is None else min(now, limit)

    def _request(self, job: Job, attempt: int) -> dict[str, int | str]:
        key = (job.rule, job.name, attempt)
        if key not in self._requests:
            asked = request(job, attempt, self.params.runtime.longest_job)
            self._requests[key] = {
                "gpu": asked.gpus,
                "mem_mb": asked.mem_mb,
                "runtime": asked.minutes,
                "gres": f"gpu:{asked.gpus}" if asked.gpus else "",
                "extra": f"{SIGNAL} --gpus-per-node={asked.gpus}" if asked.gpus else SIGNAL,
            }
        return self._requests[key]

    def targets(self, study: str) -> list[str]:
        """All files of a study. They include intermediate files, because Snakemake does not make a missing one
        otherwise."""
        return sorted(path for job in self._jobs_of(study).values() for path in job.outputs)

    def rendered(self, studies: Iterable[str], what: str) -> list[str]:
        """The files of all tables or figures of some studies."""
        jobs = [job for study in studies for job in self._jobs_of(study).values()]
        return [path for job in jobs if job.rule == f"render_{what}" for path in job.outputs]

    def asked_tables(self, targets: Iterable[str]) -> list[tuple[str, str]]:
        """(study, table) of the tables that targets of Snakemake ask for: of a study its main table."""
        groups = {"all": self.params.default_studies, "core": self.params.core_studies}
        groups["tables"] = self.params.default_studies
        found = []
        for target in sorted(targets) or ["all"]:
            parts = Path(target).parts
            for study in groups.get(target, [target] if target in self.plans else []):
                found.append((study, "main"))
            if len(parts) == 4 and (parts[0], parts[2]) == (str(RESULTS), "tables") and parts[1] in self.plans:
                found.append((parts[1], Path(target).stem))
        return list(dict.fromkeys(found))

    def unknown_targets(self, words: Iterable[str]) -> list[str]:
        """The words that are neither the name of a rule nor a file that the workflow makes."""
        paths = {word: Path(word).as_posix() for word in words if word not in self.target_names}
        if not paths:
            return []
        names = {path for job in self.jobs.values() for path in job.outputs}
        names |= {str(asset.path) for asset in self.params.assets.values()}
        scratch = (".jebm/", ".snakemake/")
        return [
            word
            for word, path in paths.items()
            if path not in names and not path.startswith(scratch) and not Path(word).exists()
        ]

    @property
    def target_names(self) -> list[str]:
        """What one can ask Snakemake for by name, except files."""
        return [*self.plans, *(f"assets_{study}" for study in self.plans), *RESERVED]

    def check_targets(self, targets: Iterable[str]) -> None:
        """Check the names and files that Snakemake is asked for.

        Raises:
            ParamsError: there is no such target; the message names the nearest one.
        """
        for target in self.unknown_targets(targets):
            files = [path for job in self.jobs.values() for path in job.outputs]
            near = difflib.get_close_matches(target, [*self.target_names, *files], n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ParamsError(
                f"{target}: no such target{hint or ';'} Targets are studies, `core`, `tables`, `figures`, and files "
                "that the workflow makes; `jebm list` shows their folders"
            )

    def assets(self, studies: Iterable[str]) -> list[str]:
        """The external files that studies need, after printing which of them exist.

        Raises:
            JebmError: a file in place is another one.
        """
        needed = {name: self.plans[study].assets[name] for study in studies for name in self.plans[study].asset_names()}
        if self.planning:
            print(inventory(needed, self._digests))
            self._digests.save()
            refuse_wrong(needed, self._digests)
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
        keep_all([status.job for status in self._statuses.values() if not status.fresh], self._digests)
        self._digests.save()
