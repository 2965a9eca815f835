"""What the processes of one job have in common: the fork server's address, the signals that are passed on, how to exit.

Imports nothing heavy: the client of the fork server starts in milliseconds.
"""

import os
import signal
import sys
from contextlib import suppress

ADDRESS = "JEBM_SERVER"
"""The environment variable that names the server's socket."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def leave(status: int) -> None:
    """Exit as another process did, or as it was ended by minus a signal: whoever waits for this one learns of it."""
    if status < 0:
        with suppress(OSError):  # nothing can be set for SIGKILL
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
