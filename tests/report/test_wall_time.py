"""The time of pending jobs on some cores, on graphs whose answer is known."""

import pytest

from jebm.pipeline.freshness import Status
from jebm.pipeline.jobs import Job
from jebm.report.cost import cost_table
from jebm.report.wall_time import in_words, wall_seconds


def status(name, *inputs, threads=1, kept=False, rule="train_prior"):
    job = Job(rule, "toy", name, (name,), {"all": inputs}, {}, frozenset(), threads=threads)
    return Status(job, kept=kept)


CHAIN = [status("a"), status("b", "a"), status("c", "b")]
WIDE = [status(str(i)) for i in range(5)]


@pytest.mark.parametrize(
    ("jobs", "cores", "units"),
    [
        (CHAIN, 4, 3),
        (WIDE, 1, 5),
        (WIDE, 2, 3),
        (WIDE, 8, 1),
        ([*WIDE, status("end", *map(str, range(5)))], 5, 2),
        ([status("x", threads=2), status("y", threads=2)], 2, 2),
        ([status("x", threads=2), status("y", threads=2)], 4, 1),
        ([status("x", threads=9)], 4, 1),
        ([status("a", kept=True), status("b", "a")], 1, 1),
    ],
)
def test_wall_time(jobs, cores, units):
    assert wall_seconds(jobs, lambda _: 10.0, cores) == 10.0 * units


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "under a minute"), (61, "1 min"), (3599, "1 h 00 min"), (3900, "1 h 05 min"), (90_000, "25 h 00 min")],
)
def test_words(seconds, words):
    assert in_words(seconds) == words


def test_unknown_is_said_to_be_unknown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = cost_table(WIDE, cores=2)
    assert "train_prior                5           unknown" in text
    assert "How long they take is unknown" in text
    record = tmp_path / "runs/train_prior/x/seed1/provenance.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"rule": "train_prior", "seconds": 60.0, "parameters": {}}', encoding="utf-8")
    last = cost_table([*WIDE, status("z", rule="draw_samples")], cores=2).splitlines()[-1]
    assert last.startswith("about 3 min on 2 cores, without 1 jobs whose time is unknown")
