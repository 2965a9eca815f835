"""The client of the fork server (``jebm.forkserver.server``): it asks the server to run the command of this process.

This module imports only the standard library, so that the client starts in milliseconds. If the server fails in any
way, this process runs the command itself.
"""

import json
import os
import select
import signal
import socket
import struct
import sys
from contextlib import suppress

ADDRESS = "JEBM_SERVER"
"""The environment variable that names the server's socket."""
REFUSED = b"no"
LENGTH = struct.Struct("!Q")
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
BATCH_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""Environment variables in which batch schedulers (Slurm, PBS, LSF, Grid Engine) say which job a process belongs to."""
CONTROL_GROUP = "/proc/self/cgroup"


def context() -> list[str | None]:
    """Properties that a server and its client must share: the interpreter, the batch job and the control group.

    A batch scheduler may start a job on the machine where the workflow runs. Such a job has its own resources and time
    limit, so the server of the workflow must not run it.
    """
    group = None
    with suppress(OSError), open(CONTROL_GROUP, encoding="utf-8") as file:
        group = file.read()
    return [sys.prefix, sys.version, *map(os.environ.get, BATCH_JOBS), group]


class SignalPipe:
    """A context in which the signals of ``FORWARDED`` arrive as bytes in a pipe, so that ``select`` can wait for them.

    A Python signal handler is not enough. It runs between two instructions of the interpreter: if a signal arrives just
    before a blocking call, the handler runs only when that call returns, perhaps hours later. The C handler of the
    interpreter, in contrast, writes the number of the signal into the pipe at once.
    """

    def __enter__(self) -> "SignalPipe":
        self.caught = b""
        """The numbers of all signals that were read so far."""
        self._ends = os.pipe()
        for end in self._ends:
            os.set_blocking(end, False)
        self._descriptor = signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        self._handlers = {
            number: signal.signal(number, lambda *_: None)
            for number in FORWARDED
            if signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._descriptor)
        self.read()  # signals since the last call, which would otherwise be lost
        for end in self._ends:
            os.close(end)

    def fileno(self) -> int:
        return self._ends[0]

    def read(self) -> bytes:
        """The numbers of the signals that arrived since the last call."""
        numbers = b""
        with suppress(BlockingIOError):
            numbers = os.read(self.fileno(), 4096)
        self.caught += numbers
        return numbers


def run_in_server(address: str, entry: str) -> None:
    """Run the command of this process in a fork of the server and exit with the status of the fork.

    Returns only if there is no server or if it refuses. The fork gets SIGTERM when this process ends.

    Args:
        address: the server's socket.
        entry: the function that runs the command, as ``module:name``.
    """
    request = {
        "context": context(),
        "entry": entry,
        "argv": sys.argv,
        "path": sys.path,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }
    body = json.dumps(request).encode()
    status = None
    # Entered before the request is sent: a signal to this process must be passed to the job from then on, instead of
    # ending this process alone.
    with SignalPipe() as signals, suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [LENGTH.pack(len(body))], [0, 1, 2])
        connection.sendall(body)
        status = _wait(connection, signals)
    if status is None and signals.caught:
        status = -signals.caught[0]  # the signal came after the end of the fork, or there is no fork
    if status is not None:
        exit_like(status)


def _wait(connection: socket.socket, signals: SignalPipe) -> int | None:
    """Wait for the fork, passing signals on to it.

    Returns the fork's exit status, or minus the signal that ended it; None if this process has to run the command.
    """
    reply = b""
    while True:
        ready, _, _ = select.select([connection, signals], [], [])
        if signals in ready:
            with suppress(OSError):
                connection.sendall(signals.read())
        if connection in ready:
            part = b""
            with suppress(ConnectionError):
                part = connection.recv(64)
            if not part:
                return int(reply) if reply and not reply.startswith(REFUSED) else None
            reply += part


def exit_like(status: int) -> None:
    """Exit with this status; if it is minus a signal, end by that signal, so that the parent process sees the same."""
    if status < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
