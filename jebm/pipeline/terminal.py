"""What a run of the workflow says on the terminal, besides Snakemake's own messages.

Snakemake logs events: a job starts, ends or fails. A filter on its logger follows them. While jobs run, their progress
is printed if a person watches; at the end, the last words are why it failed, or how to go on after Ctrl-C or SIGTERM.
"""

import atexit
import logging
import re
import shlex
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from jebm.pipeline.stages import STATE

MOST = 400
"""Characters of a list of files that is printed; a study has hundreds of files."""
SHOWN = 5
"""Number of different errors at the end."""
NAMED = 2
"""Number of running jobs without progress that a line names."""
STOPS = {signal.SIGINT: "interrupted", signal.SIGTERM: "stopped by SIGTERM"}
"""The signals on which Snakemake ends before its time, and how the last words begin."""


class Running(NamedTuple):
    """A job that has started and not ended."""

    name: str
    log: Path | None


class Terminal(logging.Filter):
    """Follows the events of Snakemake's logger.

    Args:
        every: seconds between two messages about progress.
    """

    def __init__(self, every: float = 10.0):
        super().__init__()
        self.every = every
        self.running: dict[int, Running] = {}
        self.failed: dict[int, Running] = {}
        self.done = self.total = 0
        self.stop: int | None = None
        """The signal that stopped the run."""
        self._end = threading.Event()

    def attach(self) -> None:
        """Start to follow the logger."""
        logging.getLogger("snakemake.logging").addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        event = getattr(getattr(record, "event", None), "name", None)
        if event in ("JOB_INFO", "JOB_ERROR"):
            job = Running(_name(record), Path(record.log[0]) if record.log else None)
            for key in ("input", "output"):
                setattr(record, key, shortened(getattr(record, key)))
            if event == "JOB_INFO":
                record.reason = shortened([record.reason])[0]
                self.running[record.jobid] = job
                self.failed.pop(record.jobid, None)  # tried again
            else:
                known = self.running.pop(record.jobid, job)
                self.failed[record.jobid] = known
        elif event == "JOB_FINISHED":
            self.running.pop(record.job_id, None)
            self.failed.pop(record.job_id, None)
        elif event == "PROGRESS":
            self.done, self.total = record.done, record.total
        return True

    def begin(self) -> None:
        """Before the first job: note signals that stop the run, and print progress if standard error is a terminal.

        Snakemake goes on to handle them: after Ctrl-C it ends its jobs, after SIGTERM it waits for those that run.
        """
        before = {number: handler for number in STOPS if callable(handler := signal.getsignal(number))}  # not ignored

        def note(number, frame):
            self.stop = number
            before[number](number, frame)

        with suppress(ValueError):  # not the main thread
            for number in before:
                signal.signal(number, note)
        if sys.stderr.isatty():
            threading.Thread(target=self._report, daemon=True).start()

    def end(self) -> None:
        """After the last job: stop printing progress."""
        self._end.set()

    def fail(self) -> None:
        """After a run that failed: print why at the exit of this process, after everything that Snakemake says."""
        self.end()
        atexit.register(lambda: print(self.last_words(), file=sys.stderr, flush=True))

    def _report(self) -> None:
        while not self._end.wait(self.every):
            for line in self.progress():
                print(line, file=sys.stderr, flush=True)

    def progress(self) -> list[str]:
        """One line for each training that runs, and one for all jobs, which names some of the others."""
        lines, others = [], []
        for job in list(self.running.values()):
            if found := job.log and _progress_of(job.log):
                lines.append(f"  {job.name}: {found}")
            else:
                others.append(job.name)
        if not lines + others:
            return []
        count = f"{self.done} of {self.total} jobs done, " if self.total else ""
        more = ", among them" if lines else ":"
        names = f"{more} {', '.join(others[:NAMED])}{' …' if len(others) > NAMED else ''}" if others else ""
        return [*lines, f"  {count}{len(lines + others)} running{names}"]

    def last_words(self) -> str:
        """Why the run failed, or how to go on after it was stopped."""
        if self.stop:
            states = len(list(STATE.rglob("state.pt")))
            saved = f", and the state of {states} unfinished training{'s' if states > 1 else ''}" if states else ""
            command = shlex.join(["snakemake", *sys.argv[1:]])
            return f"{STOPS[self.stop]}: all finished results are kept{saved}; the same command goes on: {command}"
        if not self.failed:
            return "error: the run failed before or after its jobs; Snakemake's message above says why"
        reasons: dict[str, list[Running]] = {}
        for job in self.failed.values():
            reasons.setdefault(_reason(job.log), []).append(job)
        many = f"{len(self.failed)} jobs failed, {self.done} of {self.total} are done. "
        lines = [f"{many}The same command tries them again; finished results are kept."]
        lines += [f"… and {len(reasons) - SHOWN} other errors"] if len(reasons) > SHOWN else []
        for reason, jobs in list(reasons.items())[:SHOWN]:
            others = f"; {len(jobs) - 1} more jobs say the same" if len(jobs) > 1 else ""
            lines.append(f"error: {jobs[0].name}: {reason} (log: {jobs[0].log}{others})")
        return "\n".join(lines)


def shortened(words: list[str], most: int = MOST) -> list[str]:
    """A list of words that is not printed over many lines of a terminal; the last says how many are left out."""
    shown, length = [], 0
    for word in (part for text in words for part in text.split(", ")):
        length += len(word) + 2
        if length > most:
            left = sum(len(text.split(", ")) for text in words) - len(shown)
            return [*shown, f"… and {left} more"] if shown else [f"{word[:most]} …"]
        shown.append(word)
    return words


def _name(record: logging.LogRecord) -> str:
    """``train_prior digits-layerwise-10a593f391 seed 1``"""
    parts = dict(record.wildcards) if getattr(record, "wildcards", None) else {}
    name = "-".join(filter(None, (parts.get("name"), parts.get("id"))))
    seed = f"seed {parts['seed']}" if "seed" in parts else ""
    return " ".join(filter(None, (record.rule_name, parts.get("study"), name, seed)))


def _tail(path: Path | None, size: int = 4096) -> list[str]:
    """The last lines of a file that are not empty; none if it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except (OSError, AttributeError):
        return []


def _progress_of(log: Path) -> str | None:
    """The last progress in a job's log, as :class:`jebm.runtime.progress.Progress` writes it."""
    lines = _tail(log)
    found = re.search(r"([\w ]+ \d+/\d+), \d+ s elapsed, about (\d+) s left", lines[-1]) if lines else None
    if found is None:
        return None
    seconds = int(found[2])
    return f"{found[1].strip()}, about {f'{seconds} s' if seconds < 120 else f'{seconds / 60:.0f} min'} left"


def _reason(log: Path | None) -> str:
    """What a job's log says last: its error message, or its last line."""
    lines = _tail(log)
    starts = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    if not starts:
        return lines[-1] if lines else "ended without a message"
    return " ".join(line.removeprefix("error: ").strip() for line in lines[starts[-1] : starts[-1] + 3])
