"""The fork server: a process that imports the libraries and this package once and runs each job in a fork.

A fork takes over the client's standard streams, working folder, arguments, environment and import path. An edit during
a run takes effect from the next job on: if a file of this package has changed since the server started, or if the
client has another copy of it, the fork imports it anew. The server starts no thread: a lock that another thread holds
would stay locked in the fork.

The server ends with the workflow. Its standard input is a pipe whose other end only the workflow's process holds. When
that process ends, for whatever reason, the server sends SIGTERM to its jobs, on which training saves its state, and
ends after them.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
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
    "torch.utils.flop_counter",
    "typer",
    "yaml",
    "zuko.flows",
)
"""Modules that the steps of the pipeline import, and modules that these libraries import at their first use.

If a module is missing here, each job that needs it has to import it; tests/forkserver checks that none is missing. All
steps share one list, because forks share the memory of the server."""
PACKAGE = Path(__file__).parents[1]
STOP_TIMEOUT = 10
"""Seconds for which :meth:`ForkServer.stop` waits for the server to end."""


class ForkServer:
    """The server of one workflow. Jobs find its address in the environment; it accepts them once its imports are done.

    Args:
        log: the file for the server's own messages.
        modules: the modules to import.
    """

    def __init__(self, log: Path, modules: tuple[str, ...] = HEAVY):
        # Not in TMPDIR: the address of a socket is limited to about 100 bytes. Only this user can enter the folder.
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
                process_group=0,  # Ctrl-C goes to the clients, which pass it on
            )
        os.environ[ADDRESS] = self.address

    def stop(self) -> None:
        """End the server and its jobs, even while it is still importing."""
        os.environ.pop(ADDRESS, None)
        self.process.stdin.close()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT)
        shutil.rmtree(self.folder, ignore_errors=True)


def main(address: str, *modules: str) -> None:
    """The main function of the server. In a fork, ``_serve`` returns a connection and the fork runs its command."""
    files = _package_files()  # before the imports: what is edited after this counts as changed
    for name in modules:
        importlib.import_module(name)
    for name in _package_modules():
        with suppress(Exception):  # the jobs that need a module that can't be imported say so
            importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        sys.exit("an import started a thread, so forks would not be safe")
    gc.freeze()  # a collection in a fork would otherwise write to, and so copy, every page
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen(128)
        os.rename(f"{address}.new", address)  # clients see the socket only when they can connect to it
        connection = _serve(listener)
    if connection is None:
        shutil.rmtree(Path(address).parent, ignore_errors=True)
    else:
        _run_request(connection, files)


def _package_modules() -> list[str]:
    """All modules of this package, except those that only other programs or experiments import."""
    found = pkgutil.walk_packages([str(PACKAGE)], "jebm.", onerror=lambda name: None)
    others = ("jebm.__main__", "jebm.bench", "jebm.report.snakesee_plugin")
    return [module.name for module in found if not module.name.startswith(others)]


def _package_files() -> dict[str, tuple[int, ...]]:
    """The size, times and inode of each source file of this package, by its path."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        with suppress(FileNotFoundError):  # an editor's, which is gone again
            status = path.stat()
            found[str(path)] = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    return found


def _forget_package(files: dict[str, tuple[int, ...]]) -> None:
    """Have this package imported anew if it is another one than the server's, or if a file of it has changed."""
    found = next(filter(None, (finder.find_spec("jebm", None) for finder in sys.meta_path)))
    if Path(found.origin).parent != PACKAGE or _package_files() != files:
        for name in [name for name in sys.modules if name.partition(".")[0] == "jebm"]:
            del sys.modules[name]
        importlib.invalidate_caches()


def _serve(listener: socket.socket) -> socket.socket | None:
    """Fork for each connection, and send each client the exit status of its fork.

    Returns the connection in a fork, and None in the server at the end.
    """
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
            # Blocked until the fork has its own handlers, or a signal before that would be lost.
            signal.pthread_sigmask(signal.SIG_BLOCK, stops)
            try:
                pid = os.fork()
            except OSError:  # no memory or too many processes: the connection is closed, and the client runs the job
                pid = None
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for number, handler in {**stops, signal.SIGCHLD: signal.SIG_DFL}.items():
                    signal.signal(number, handler)
                for other in jobs.values():  # an open copy here would hide the end of the server from their clients
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
    """Send the clients of forks that have ended the exit status of their fork."""
    while jobs:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with jobs.pop(pid) as connection, suppress(OSError):  # the client may be gone
            connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _run_request(connection: socket.socket, files: dict[str, tuple[int, ...]]) -> None:
    """Take over the state of the client's process, and run its command."""
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
    _forget_package(files)
    if "numpy" in sys.modules:
        sys.modules[
            "numpy"
        ].random.seed()  # by the operating system, as in a new process; forks would otherwise share their seed

    importlib.import_module("jebm.forkserver.refusal").refuse = partial(_refuse, connection)
    module, _, name = request["entry"].partition(":")
    try:
        getattr(importlib.import_module(module), name)()
    except SystemExit as left:
        # The interpreter's shutdown is skipped: clearing thousands of modules takes longer than many jobs.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(left.code or 0)


def _refuse(connection: socket.socket) -> NoReturn:
    """End this fork before it has done anything; the client runs the command."""
    connection.sendall(REFUSED)
    os._exit(0)


def _relay_signals(connection: socket.socket) -> None:
    """Raise the signals that the client received in the main thread. A closed connection counts as SIGTERM.

    As in any process, Python's handler runs before the next instruction of the main thread, or the signal interrupts
    its blocking call, so training reacts within a step. A blocking call that starts in the same microsecond is not
    interrupted, but the steps of the pipeline have no long blocking calls.
    """
    number = True
    while number:
        number = connection.recv(1)
        signal.pthread_kill(threading.main_thread().ident, number[0] if number else signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
