"""The toy study's jobs with work that costs nothing: each writes the digests of what it read, and its parameters."""

import json
from dataclasses import replace
from pathlib import Path

from toy import params

from jebm.config.read import parse_params
from jebm.io.digests import sha256
from jebm.pipeline.jobs import Job, all_jobs
from jebm.pipeline.results import produce
from jebm.pipeline.study import make_plan

PICTURES = {
    "toy/dataset": {"name": "images", "source": {"name": "folder", "path": "cats"}, "size": 8, "test_count": 5},
    "toy/features": {"name": "identity"},
    "toy/evaluate_samples": {"kernel_distance_subsets": 3},
}
"""The study on pictures of the user's own."""


def toy_jobs(changes: dict | None = None, study: str = "toy") -> dict[tuple[str, str], Job]:
    """(rule, name) → job of the toy study, or of one of another name that has its block.

    The code of every job is one small module, which tests may edit.
    """
    content = params(changes)
    jobs = all_jobs([make_plan(parse_params(content | {study: content["toy"]}))[study]])
    return {key: replace(job, entries=frozenset({"jebm.work"})) for key, job in jobs.items()}


def only(jobs: dict[tuple[str, str], Job], rule: str, end: str = "") -> Job:
    """The first job of a rule whose name ends so."""
    return next(job for (own, name), job in jobs.items() if own == rule and name.endswith(end))


class Worker:
    """Produces jobs, and remembers for which of them the work was done.

    Args:
        constant: rules whose outputs say nothing about their inputs, as where an edit has no effect.
    """

    def __init__(self, *constant: str):
        self.done: list[str] = []
        self.constant = constant

    def __call__(self, job: Job, again: bool = False) -> bool:
        """Produce one job; whether its work was done."""
        before = len(self.done)
        produce(job, lambda code: self._work(job), again)
        return len(self.done) > before

    def all(self, jobs: dict[tuple[str, str], Job]) -> list[str]:
        """Produce all jobs, and say which rules had work."""
        self.done.clear()
        for job in jobs.values():
            self(job)
        return self.done

    def _work(self, job: Job) -> None:
        self.done.append(job.rule)
        said = {path: sha256(Path(path)) for path in job.input_files if Path(path).is_file()}
        for path in map(Path, job.outputs[:-1]):
            path.parent.mkdir(parents=True, exist_ok=True)
            content = [path.name, job.parameters, {} if job.rule in self.constant else said]
            path.write_text(json.dumps(content, sort_keys=True), encoding="utf-8")
