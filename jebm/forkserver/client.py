"""The side of a job that asks the fork server (``jebm.forkserver``): what each ``jebm …`` of a workflow starts as.

Imports nothing heavy: starting in milliseconds is its purpose. Whatever is wrong with the server, the answer is the
same: this process does the work itself.
"""

import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress

from jebm.runtime.processes import FORWARDED, leave

REFUSED = b"no"
LENGTH = struct.Struct("!Q")


def interpreter() -> list[str]:
    """What has to agree between a server and its client."""
    return [sys.prefix, sys.version]


def hand_over(address: str) -> None:
    """Run this command in a fork of the server and exit as the fork did; returns if there is no server or it refuses.

    The connection is the fork's life: it ends as by SIGTERM when this process is gone.
    """
    request = {
        "interpreter": interpreter(),
        "argv": sys.argv,
        "path": sys.path,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }
    body = json.dumps(request).encode()
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [LENGTH.pack(len(body))], [0, 1, 2])
        connection.sendall(body)
        status = _wait(connection)
        if status is not None:
            leave(status)


def _wait(connection: socket.socket) -> int | None:
    """The fork's exit status, or minus the signal that ended it; None when this process has to do the work.

    Meanwhile signals are passed on. One that came too late for a fork is obeyed here.
    """
    caught = []

    def forward(number, _):
        caught.append(number)
        with suppress(OSError):
            connection.send(bytes([number]))

    before = {n: signal.signal(n, forward) for n in FORWARDED if signal.getsignal(n) != signal.SIG_IGN}
    reply = b""
    with suppress(ConnectionError):
        while part := connection.recv(64):
            reply += part
    for number, handler in before.items():
        signal.signal(number, handler)
    if reply and not reply.startswith(REFUSED):
        return int(reply)
    return -caught[0] if caught else None
