"""Which results are fresh, which are kept, what follows from what, and why: by content, and by no clock."""

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from toy_jobs import PICTURES, Worker, only, toy_jobs

from jebm.io.digests import DigestCache
from jebm.pipeline.freshness import NO_RECORD, pending, statuses
from jebm.pipeline.results import KEPT


def decide(jobs):
    """(rule, name) → status."""
    return {(status.job.rule, status.job.name): status for status in statuses(jobs.values(), DigestCache())}


def stale(jobs):
    """The rules of jobs that are not fresh."""
    return {rule for (rule, _), status in decide(jobs).items() if not status.fresh}


def would_run(jobs, *rules):
    """The rules of the jobs that run for the sake of some rules, or of everything."""
    found = decide(jobs)
    wanted = [status for (rule, _), status in found.items() if not rules or rule in rules]
    return {status.job.rule for status in pending(wanted, found.values())}


def flip(path):
    """Damage a file behind its former time. It is replaced, since its content has another name among the kept ones."""
    path, status = Path(path), os.stat(path)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 10**15))


@pytest.fixture
def finished(code):
    """The toy study, finished."""
    jobs = toy_jobs()
    Worker().all(jobs)
    return jobs


def test_of_a_study_that_was_never_run_only_what_reads_nothing_has_a_key(code):
    found = decide(toy_jobs())
    assert not any(status.fresh or status.kept for status in found.values())
    assert {status.job.rule for status in found.values() if status.key} == {"prepare_dataset"}
    for status in found.values():
        assert bool(status.stale_inputs) == (status.job.rule != "prepare_dataset")
        assert status.changes == ["not made yet"]
    assert len(pending(found.values(), found.values())) == len(found)


def test_a_finished_study_is_fresh_whatever_the_times(finished):
    draw = random.Random(0)
    for path in [path for job in finished.values() for path in job.outputs]:
        when = draw.randrange(4_000_000_000)
        os.utime(path, (when, when))
    found = decide(finished)
    assert all(status.fresh and status.key and not status.changes for status in found.values())
    assert pending(found.values(), found.values()) == []


@pytest.mark.parametrize("kept_too", [True, False], ids=["kept", "not kept"])
@pytest.mark.parametrize("damage", [os.unlink, flip], ids=["deleted", "flipped"])
@pytest.mark.parametrize("output", ["weights.safetensors", "provenance.json"])
def test_a_damaged_file_concerns_the_job_that_makes_it_and_nothing_behind_it(finished, damage, output, kept_too):
    job = only(finished, "train_backbone", "seed1")
    if not kept_too:
        shutil.rmtree(KEPT)
    damage(f"{Path(job.provenance).parent}/{output}")
    found = decide(finished)
    status = found[job.rule, job.name]
    assert not status.fresh
    assert status.kept == kept_too
    assert status.changes
    behind = {"train_prior", "draw_samples", "evaluate_samples", "evaluate_density"}
    if kept_too:  # what it holds is known: nothing behind it is in doubt
        assert stale(finished) == {"train_backbone"}
    else:
        readers = [s for s in found.values() if set(job.outputs) & set(s.job.input_files)]
        assert {s.job.rule for s in readers} >= {"train_prior", "draw_samples", "evaluate_density", "collect_metrics"}
        assert all(s.stale_inputs and not s.fresh and not s.key for s in readers)
        assert behind < stale(finished)
    assert "train_features" not in stale(finished)
    Worker().all(finished)
    assert stale(finished) == set()


def test_a_fresh_result_needs_nothing_that_it_was_made_from(finished):
    shutil.rmtree(only(finished, "train_backbone", "seed1").provenance.split("/seed1")[0])
    assert "train_backbone" in would_run(finished, "train_backbone")
    assert would_run(finished, "render_table") == set()
    shutil.rmtree(KEPT)
    assert "train_backbone" in would_run(finished, "render_table"), "nothing vouches for what it holds any more"


def test_changes_say_what_differs_and_followers_have_none_of_their_own(finished, code):
    changed = toy_jobs({"toy/train_prior/learning_rate": 0.01})
    found = decide(changed)
    prior = only(changed, "train_prior", "seed1")
    assert found[prior.rule, prior.name].changes == ["not made yet"], "other parameters, another folder"
    collected = only(changed, "collect_metrics")
    status = found[collected.rule, collected.name]
    assert "parameters: variants.joint.train_prior.learning_rate was 0.001, is 0.01" in status.changes
    assert status.stale_inputs
    assert would_run(changed, "render_table") >= {"train_prior", "draw_samples", "evaluate_samples", "collect_metrics"}
    assert not {"prepare_dataset", "train_backbone", "train_features"} & would_run(changed)


def test_an_edited_module_is_named(finished, code):
    code.edit("x = 2\n")
    status = next(iter(decide(finished).values()))
    assert status.changes == ["code: jebm.work edited"]
    code.edit("import yaml\nx = 1\n")
    lines = next(iter(decide(finished).values())).changes
    assert any(line.startswith("code: package yaml was not used, is ") for line in lines)
    code.edit("x = 1\n")
    assert stale(finished) == set()


def test_an_edit_that_was_undone_after_a_run_finds_what_was_kept(finished, code):
    code.edit("x = 2\n")
    Worker().all(finished)
    code.edit("x = 1\n")
    found = decide(finished)
    assert all(status.kept and not status.fresh and not status.stale_inputs for status in found.values())
    assert Worker().all(finished) == []
    assert stale(finished) == set()


def test_changed_content_from_outside_is_named(code):
    Path("cats").mkdir()
    Path("cats/0.png").write_bytes(b"first")
    jobs = toy_jobs(PICTURES)
    Worker().all(jobs)
    os.utime("cats/0.png", (1, 1))
    assert stale(jobs) == set()
    Path("cats/0.png").write_bytes(b"other")
    data = only(jobs, "prepare_dataset")
    (line,) = decide(jobs)[data.rule, data.name].changes
    assert line.startswith("data: cats has other content (")
    assert would_run(jobs) == {rule for rule, _ in jobs}, "what it will be is not known before it was read"
    shutil.rmtree("cats")
    assert decide(jobs)[data.rule, data.name].changes == ["data: cats is missing"]


def test_a_dry_run_promises_no_early_cutoff_and_the_run_has_it(code):
    """What an edited module makes is not known beforehand; in the run, work ends where the bytes agree."""
    own = code.module.with_name("data_only.py")
    own.write_text("y = 1\n", encoding="utf-8")
    jobs = {
        name: replace(job, entries=frozenset({"jebm.data_only"})) if job.rule == "prepare_dataset" else job
        for name, job in toy_jobs().items()
    }
    worker = Worker()
    worker.all(jobs)
    own.write_text("y = 2\n", encoding="utf-8")
    code.forget()
    assert would_run(jobs) == {rule for rule, _ in jobs}
    assert worker.all(jobs) == ["prepare_dataset"]
    assert stale(jobs) == set()


def test_a_record_that_is_not_ours_is_no_result(finished):
    job = only(finished, "render_table")
    Path(job.provenance).unlink()
    Path(job.provenance).write_text('{"made": "by something else"}', encoding="utf-8")
    shutil.rmtree(KEPT)
    assert decide(finished)[job.rule, job.name].changes == [NO_RECORD]
    assert would_run(finished) == {"render_table"}


def test_jobs_that_are_needed_come_in_an_order_in_which_they_can_run(code):
    jobs = toy_jobs()
    found = decide(jobs)
    order = pending(list(reversed(list(found.values()))), found.values())
    made = set()
    makers = {path for job in jobs.values() for path in job.outputs}
    for status in order:
        assert set(status.job.input_files) & makers <= made
        made |= set(status.job.outputs)
