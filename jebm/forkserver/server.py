"""A process that imports the heavy libraries once and forks for each job of a workflow, so that a job starts at once.

A fork takes over a client's standard streams, folder, arguments, environment and import path, and then imports this
package from disk as any process does: an edit during a run counts from the next job on. The server imports nothing of
the package but this folder and ``jebm.runtime.threads``, which are no part of any job's code, and starts no thread:
no lock can be held by a thread that does not exist in the fork.

Nothing outlives the workflow. The server's standard input is a pipe that only the workflow's process holds; when that
ends, however it ends, the server stops its jobs by SIGTERM, on which training saves its state, and ends after them.
"""

import atexit
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from jebm.forkserver.client import ADDRESS, LENGTH, REFUSED, context
from jebm.runtime.threads import thread_variables

HEAVY = (
    "cleanfid.fid",
    "filelock",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.pyplot",
    "pandas",
    "pydantic.main",
    "safetensors.torch",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.mixture",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "tabulate",
    "torch._dynamo",  # the first step of an optimiser imports it
    "typer",
    "yaml",
)
"""What the steps of the pipeline import, and what these libraries import at their first use. A module that is missing
here costs each job the time of its import and nothing else; tests/forkserver sees that none is missing. One list for
all steps, and not one for each: forks share its memory, and a server that is not needed yet costs no job any time."""
SECONDS = 10
"""A server that is still waiting for its jobs after this long is left to end by itself."""


class ForkServer:
    """The server of one workflow. Jobs find it by the environment; it takes them once its imports are done.

    Args:
        log: where the server's own messages go.
        modules: what it imports.
    """

    def __init__(self, log: Path, modules: tuple[str, ...] = HEAVY):
        # Not in TMPDIR: the address of a socket may be about 100 bytes long. Only this user can enter the folder.
        self.folder = tempfile.mkdtemp(prefix="jebm-", dir="/tmp")
        self.address = f"{self.folder}/socket"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jebm.forkserver.server", self.address, *modules],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env={**os.environ, **thread_variables(1), "MPLBACKEND": "agg"},
                process_group=0,  # Ctrl-C is for the clients, who pass it on
            )
        os.environ[ADDRESS] = self.address

    def stop(self) -> None:
        """End the server, also while it is still importing, and the jobs that it still has."""
        os.environ.pop(ADDRESS, None)
        self.process.stdin.close()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)


def main(address: str, *modules: str) -> None:
    """The server's process. A fork leaves ``_serve`` and ends as a process of ``jebm`` does."""
    for name in modules:
        importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        sys.exit("an import started a thread: nothing can be forked safely")
    gc.freeze()  # a collection in a fork would otherwise write to, and so copy, every page
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen(128)
        os.rename(f"{address}.new", address)  # whoever sees the socket can connect to it
        connection = _serve(listener)
    if connection is None:
        shutil.rmtree(Path(address).parent, ignore_errors=True)
    else:
        _run_request(connection)


def _serve(listener: socket.socket) -> socket.socket | None:
    """Fork for each connection, and tell it how the fork ended; returns the connection in a fork, None at the end."""
    lifeline = sys.stdin.fileno()
    wake, alarm = os.pipe()
    for end in (wake, alarm):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    stops = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    for number in (*stops, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    jobs: dict[int, socket.socket] = {}
    stopping = False
    while jobs or not stopping:
        ready, _, _ = select.select([wake] if stopping else [wake, lifeline, listener], [], [])
        numbers = os.read(wake, 4096) if wake in ready else b""
        _reap(jobs)
        if lifeline in ready or any(number in numbers for number in stops):
            stopping = True
            listener.close()
            for pid in jobs:
                os.kill(pid, signal.SIGTERM)
        elif listener in ready:
            connection, _ = listener.accept()
            # A signal that reaches the fork before it has its own handlers must wait, or it would be lost.
            signal.pthread_sigmask(signal.SIG_BLOCK, stops)
            try:
                pid = os.fork()
            except OSError:  # no memory or too many processes: closing the connection leaves the job to its client
                pid = None
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for number, handler in {**stops, signal.SIGCHLD: signal.SIG_DFL}.items():
                    signal.signal(number, handler)
                for other in jobs.values():  # or their clients would not see the end of the server
                    other.close()
                os.close(wake)
                os.close(alarm)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
            if pid == 0:
                return connection
            if pid is None:
                connection.close()
            else:
                jobs[pid] = connection
    return None


def _reap(jobs: dict[int, socket.socket]) -> None:
    """Tell the clients of forks that ended how they did."""
    while jobs:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with jobs.pop(pid) as connection, suppress(OSError):  # the client may be gone
            connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _run_request(connection: socket.socket) -> None:
    """Become the process that the client would have been, and run its command."""
    header, streams, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    request = json.loads(connection.recv(*LENGTH.unpack(header), socket.MSG_WAITALL))
    if request["context"] != context():
        _refuse(connection)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    threading.Thread(target=_relay_signals, args=(connection,), daemon=True).start()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv, sys.path[:] = request["argv"], request["path"]
    for name in [name for name in sys.modules if name.partition(".")[0] == "jebm"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # from the system, as in a new process, and not the same in every fork

    importlib.import_module("jebm.forkserver.refusal").refuse = partial(_refuse, connection)
    module, _, name = request["entry"].partition(":")
    try:
        getattr(importlib.import_module(module), name)()
    except SystemExit as left:
        # Taking thousands of modules apart would take half a second, longer than many a job.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(left.code or 0)


def _refuse(connection: socket.socket) -> NoReturn:
    """Leave the command to its client; nothing was done yet."""
    connection.sendall(REFUSED)
    os._exit(0)


def _relay_signals(connection: socket.socket) -> None:
    """Pass on the signals that the client got. A client that is gone counts as SIGTERM.

    The main thread gets them as in a process of its own: Python's handler runs before its next instruction, or its
    blocking call is interrupted. So training learns of it within a step. As in any Python process, a blocking call that
    starts in the microsecond of the signal is not interrupted; the steps of the pipeline wait for nothing that long.
    """
    number = True
    while number:
        number = connection.recv(1)
        signal.pthread_kill(threading.main_thread().ident, number[0] if number else signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
