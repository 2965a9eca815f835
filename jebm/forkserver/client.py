"""The side of a command that asks the fork server (``jebm.forkserver.server``) to run it.

Imports nothing heavy: starting in milliseconds is its purpose. Whatever is wrong with the server, the answer is the
same: this process runs the command itself.
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
    """What has to agree between a server and its client: the interpreter, the batch job and the control group.

    A job that a batch scheduler starts on the machine of the workflow's own process has resources and a time limit of
    its own, so it must not be executed by the server of that process.
    """
    group = None
    with suppress(OSError), open(CONTROL_GROUP, encoding="utf-8") as file:
        group = file.read()
    return [sys.prefix, sys.version, *map(os.environ.get, BATCH_JOBS), group]


class SignalPipe:
    """While this is entered, the signals of ``FORWARDED`` are bytes that can be waited for together with a socket.

    A Python handler would not do. It runs between two instructions of the interpreter, so for a signal that arrives
    just before a blocking call starts, it runs when that call returns, which may be hours later. Into the pipe, the
    interpreter's C handler writes the signal's number at once, and ``select`` sees it.
    """

    def __enter__(self) -> "SignalPipe":
        self.caught = b""
        """The numbers that were read so far."""
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
        self.read()  # what came after the last look, and would be lost
        for end in self._ends:
            os.close(end)

    def fileno(self) -> int:
        return self._ends[0]

    def read(self) -> bytes:
        """The numbers of the signals that came since the last call."""
        numbers = b""
        with suppress(BlockingIOError):
            numbers = os.read(self.fileno(), 4096)
        self.caught += numbers
        return numbers


def run_in_server(address: str, entry: str) -> None:
    """Run this command in a fork of the server and exit as the fork did; returns if there is no server or it refuses.

    The connection is the fork's life: the fork gets SIGTERM when this process is gone.

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
    # Entered before the request is sent: a signal that ended this process later on would not end the job as a signal
    # to the job does.
    with SignalPipe() as signals, suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [LENGTH.pack(len(body))], [0, 1, 2])
        connection.sendall(body)
        status = _wait(connection, signals)
    if status is None and signals.caught:
        status = -signals.caught[0]  # it came too late for the fork, or there was none
    if status is not None:
        exit_like(status)


def _wait(connection: socket.socket, signals: SignalPipe) -> int | None:
    """The fork's exit status, or minus the signal that ended it; None when this process has to run the command.

    Meanwhile signals are passed on.
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
    """Exit as another process did, or as it was ended by minus a signal: whoever waits for this one learns of it."""
    if status < 0:
        with suppress(OSError):  # nothing can be set for SIGKILL
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
