"""The words of a run: what its jobs do, why it failed, how to go on, and which tables were asked for."""

import logging
from pathlib import Path

import pytest
import toy
import yaml
from snakemake_interface_logger_plugins.common import LogEvent

from jebm.pipeline.terminal import Terminal, shortened
from jebm.pipeline.workflow import PLANNED, Workflow
from jebm.runtime.progress import Progress

LOGGER = logging.getLogger("snakemake.logging")


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    """A terminal that follows Snakemake's logger, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LOGGER, "level", logging.INFO)
    found = Terminal()
    found.attach()
    yield found
    LOGGER.removeFilter(found)


def event(name, **facts):
    LOGGER.info("", extra={"event": LogEvent[name], **facts})


def start(number, rule="train_prior", log="", inputs=("a",), **wildcards):
    facts = {"rule_name": rule, "log": [log] if log else [], "input": list(inputs), "output": ["b"]}
    event("JOB_INFO", jobid=number, reason="because", wildcards=wildcards, **facts)


def fail(number):
    event("JOB_ERROR", jobid=number, rule_name="train_prior", log=[], input=[], output=[])


def test_many_failed_jobs_end_with_their_reasons(terminal):
    for number, text in enumerate(
        ["error: no GPU is here", "a line\nerror: no GPU is here\n", "Killed", "error: full"]
    ):
        Path(f"{number}.log").write_text(f"started\n{text}")
        start(number, log=f"{number}.log", name="digits-layerwise", id="0123456789", seed=str(number))
        fail(number)
    event("PROGRESS", done=3, total=9)
    assert terminal.last_words().splitlines() == [
        "4 jobs failed, 3 of 9 are done. The same command tries them again; finished results are kept.",
        "error: train_prior digits-layerwise-0123456789 seed 0: no GPU is here (log: 0.log; 1 more jobs say the same)",
        "error: train_prior digits-layerwise-0123456789 seed 2: Killed (log: 2.log)",
        "error: train_prior digits-layerwise-0123456789 seed 3: full (log: 3.log)",
    ]


def test_a_job_that_succeeds_when_it_is_tried_again_did_not_fail(terminal):
    start(1)
    fail(1)
    start(1)
    event("JOB_FINISHED", job_id=1)
    assert "before or after its jobs" in terminal.last_words()


def test_progress_is_what_the_logs_of_running_jobs_say(terminal, capsys):
    progress = Progress("digits train_prior", every=0.0)
    progress("step", 100, 500)
    Path("1.log").write_text(capsys.readouterr().err)
    start(1, log="1.log", study="digits", seed="1")
    start(2, rule="render_table", study="digits", name="main")
    event("PROGRESS", done=3, total=9)
    training, count = terminal.progress()
    assert training.startswith("  train_prior digits seed 1: step 100/500, about ")
    assert count == "  3 of 9 jobs done, 2 running, among them render_table digits main"
    event("JOB_FINISHED", job_id=1)
    assert terminal.progress() == ["  3 of 9 jobs done, 1 running: render_table digits main"]
    for number in (3, 4):
        start(number, rule="draw_samples", name="digits", id="0123456789", seed=str(number))
    (line,) = terminal.progress()
    assert line.endswith("3 running: render_table digits main, draw_samples digits-0123456789 seed 3 …")
    event("JOB_FINISHED", job_id=2)
    event("JOB_FINISHED", job_id=3)
    event("JOB_FINISHED", job_id=4)
    assert terminal.progress() == []


def test_the_time_left_is_in_seconds_or_minutes(terminal):
    for seconds, shown in ((90, "90 s"), (4618, "77 min")):
        Path("1.log").write_text(f"digits train_prior: step 2/9, 5 s elapsed, about {seconds} s left\n")
        start(1, log="1.log", study="digits", seed="1")
        assert terminal.progress()[0] == f"  train_prior digits seed 1: step 2/9, about {shown} left"


def test_long_lists_of_files_are_cut(terminal):
    files = [f"runs/train_prior/{i}/weights.safetensors" for i in range(1000)]
    shown = shortened(files)
    assert len(", ".join(shown)) < 450
    assert shown[-1] == f"… and {1000 - len(shown) + 1} more"
    assert shortened(files[:3]) == files[:3]


@pytest.mark.parametrize(
    ("targets", "tables"),
    [
        ([], [("toy", "main")]),
        (["other"], [("other", "main")]),
        (["core"], []),
        (["results/other/tables/main.md", "results/other/tables/main.csv"], [("other", "main")]),
        (["results/other/figures/samples.png"], []),
        (["all", "other"], [("toy", "main"), ("other", "main")]),
    ],
    ids=str,
)
def test_the_tables_at_the_end_are_those_that_were_asked_for(targets, tables, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PLANNED, "here")
    content = toy.params()
    Path("params.yaml").write_text(yaml.safe_dump(content | {"other": content["toy"]}), encoding="utf-8")
    assert Workflow().asked_tables(targets) == tables
