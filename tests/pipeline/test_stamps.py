"""Stamps: older than any file where the result is fresh, newer than all outputs where it is not."""

import os
import time
from pathlib import Path

import pytest
from toy_jobs import only, toy_jobs

from jebm.pipeline.stamps import age_stamp, write_stamps

FUTURE = 4_000_000_000


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = only(toy_jobs(), "train_prior", "seed1")
    for path in map(Path, job.outputs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("made", encoding="utf-8")
    return job


def set_times(job, seconds):
    for path in job.outputs:
        os.utime(path, (seconds, seconds))


def newest(job):
    return max(os.stat(path).st_mtime_ns for path in job.outputs)


def stamp_time(job):
    return os.stat(job.stamp).st_mtime_ns


@pytest.mark.parametrize("seconds", [2, 1_700_000_000, FUTURE])
def test_a_fresh_result_s_stamp_is_older_than_any_output(job, seconds):
    set_times(job, seconds)
    write_stamps([(job, True)])
    assert stamp_time(job) < min(os.stat(path).st_mtime_ns for path in job.outputs)


@pytest.mark.parametrize("seconds", [1, 1_700_000_000, FUTURE])
def test_a_stale_result_s_stamp_is_newer_than_all_outputs_even_of_the_future(job, seconds):
    set_times(job, seconds)
    write_stamps([(job, False)])
    assert stamp_time(job) > newest(job)


def test_one_output_of_the_future_is_enough(job):
    os.utime(job.outputs[0], (FUTURE, FUTURE))
    write_stamps([(job, False)])
    assert stamp_time(job) > newest(job)


def test_the_time_of_what_a_link_points_to_counts_too(job, tmp_path):
    """DVC's outputs may be symbolic links into its cache; Snakemake looks at the link and at the file."""
    path = Path(job.outputs[0])
    path.rename(tmp_path / "cached")
    path.symlink_to(tmp_path / "cached")
    os.utime(tmp_path / "cached", (FUTURE, FUTURE))
    write_stamps([(job, False)])
    assert stamp_time(job) > FUTURE * 10**9


def test_a_stamp_that_counts_is_written_again_only_when_an_output_is_newer(job):
    write_stamps([(job, False)])
    first, content = stamp_time(job), Path(job.stamp).read_bytes()
    write_stamps([(job, False)])
    assert (stamp_time(job), Path(job.stamp).read_bytes()) == (first, content)
    set_times(job, time.time() + 100)
    write_stamps([(job, False)])
    assert stamp_time(job) > newest(job)
    assert Path(job.stamp).read_bytes() != content


def test_content_is_never_that_of_an_earlier_stamp_that_counted(job):
    """Snakemake takes a small newer file whose checksum it knows for unchanged."""
    seen = set()
    for _ in range(20):
        write_stamps([(job, False)])
        seen.add(Path(job.stamp).read_bytes())
        age_stamp(job)
    assert len(seen) == 20
    assert b"" not in seen


def test_a_result_that_was_made_is_fresh(job):
    write_stamps([(job, False)])
    age_stamp(job)
    assert stamp_time(job) < 10**10
    before = os.stat(job.stamp)
    age_stamp(job)
    write_stamps([(job, True)])
    assert os.stat(job.stamp).st_ctime_ns == before.st_ctime_ns, "an old stamp is not written again"


def test_missing_outputs_need_no_special_case(job):
    for path in job.outputs:
        Path(path).unlink()
    write_stamps([(job, False)])
    assert abs(stamp_time(job) - time.time_ns()) < 60 * 10**9
