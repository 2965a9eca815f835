"""Several processes for one job, by the library behind torchrun, as one command: one message, one exit status.

torchrun itself would end with status 1 and its own report whatever happened; here a run that was asked to stop ends
with the status of a run that was asked to stop, and everything else like a job of one process.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from jebm.errors import LostRankError
from jebm.runtime.processes import ADDRESS, FORWARDED

ERRORS = "TORCHELASTIC_ERROR_FILE"
"""The environment variable that names the file in which a rank leaves its error."""
LIFELINE = "JEBM_LIFELINE"
"""Set for ranks whose standard input ends when their launcher does."""


def launched() -> int:
    """As how many ranks this process and its likes were started; 0 if it was started alone."""
    return int(os.environ.get("WORLD_SIZE", 0)) if "RANK" in os.environ else 0


def leads() -> bool:
    """Whether this process is the one that writes files."""
    return not launched() or os.environ["RANK"] == "0"


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run ``jebm ARGUMENTS`` as ``count`` ranks; prints the error if there is one.

    Rank 0 has this process's standard output and error, the others are silent. Signals go to all ranks. When one of
    them fails, the others are stopped.

    Returns the exit status, or minus the signal that ended the job.
    """
    from torch.distributed import TCPStore
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std, start_processes

    logging.getLogger("torch.distributed.elastic.multiprocessing").setLevel(logging.CRITICAL + 1)
    os.environ.pop(ADDRESS, None)  # the fork server has no several processes to offer
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory(prefix="jebm-ranks-") as folder, _lifeline():
        context = start_processes(
            "jebm",
            sys.executable,
            dict.fromkeys(range(count), ("-m", "jebm", *arguments)),
            {rank: _environment(rank, count, store.port) for rank in range(count)},
            DefaultLogsSpecs(folder, {rank: Std.ALL if rank else Std.NONE for rank in range(count)}),
        )
        sent = _forward_signals(context)
        result = context.wait(period=0.05)
        if not result.failures:
            return 0
        status, message = _verdict(result, count, sent)
    if message:
        print(message, file=sys.stderr)
    return status


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True, LIFELINE: 1}
    return {name: str(value) for name, value in (place | meeting).items()}


def _forward_signals(context) -> list[int]:
    """Pass the signals that this process gets to all ranks; returns a list that gets each of them."""
    sent: list[int] = []

    def forward(number, _):
        sent.append(number)
        for pid in context.pids().values():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    return sent


def _verdict(result, count: int, sent: list[int]) -> tuple[int, str]:
    """Exit status and message for what some ranks ended with, in that order.

    The cause is an error that a rank told, unless it tells of having lost another one; else what happened to the first
    rank that told nothing. The others were stopped because of it.
    """
    failures = result.failures
    told = {rank: found for rank in sorted(failures) if (found := _told(failures[rank].error_file))}
    causes = [found for found in told.values() if found[0] != LostRankError.exit_code]
    if causes:
        status, message = causes[0]
        return status, f"error: {message}"
    untold = [rank for rank in failures if rank not in told]
    if sent:
        return -sent[0], ""
    if not untold:
        return 1, f"error: {next(iter(told.values()))[1]}"
    rank, status = untold[0], failures[untold[0]].exitcode
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return 1, (
            f"error: process {rank} of {count} was ended by {name}{hint}, and the others were stopped. "
            "Run the same command to go on from the last checkpoint"
        )
    log = Path(result.stderrs[rank]).read_text(encoding="utf-8", errors="replace") if rank else ""
    return status, f"{log}error: process {rank} of {count} failed, and the others were stopped"


def _told(path: str) -> tuple[int, str] | None:
    """The exit status and the message of an error that a rank left; it may have been stopped while it exited."""
    try:
        left = json.loads(Path(path).read_text(encoding="utf-8"))["message"]
        return left["status"], left["message"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None


def tell(message: str, status: int) -> None:
    """Say what went wrong: to the user, or, on one of several ranks, to their launcher, which says it once.

    The file's form is that of torch.distributed.elastic, so that torchrun can read it too.
    """
    if launched() and os.environ.get(ERRORS):
        details = {"message": message, "status": status, "extraInfo": {"timestamp": "0", "py_callstack": message}}
        Path(os.environ[ERRORS]).write_text(json.dumps({"message": details}), encoding="utf-8")
    else:
        print(f"error: {message}", file=sys.stderr)


@contextmanager
def _lifeline() -> Iterator[None]:
    """Give the processes that are started meanwhile a standard input that ends when this process does."""
    read, write = os.pipe()
    before = os.dup(0)
    os.dup2(read, 0)
    os.close(read)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(write)


def hold_lifeline() -> None:
    """Stop this rank by SIGTERM, on which training saves its state, when its launcher is gone, however it ended."""

    def watch():
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    if os.environ.pop(LIFELINE, None):
        threading.Thread(target=watch, daemon=True).start()
