"""How a command in a fork of the server demands to run in a new process instead."""

from collections.abc import Callable
from typing import NoReturn

refuse: Callable[[], NoReturn] | None = None
"""Set by the server in each fork; None in every other process."""


def require_own_process() -> None:
    """Called by commands that need several threads or a GPU: the server imported the libraries for one thread.

    In an ordinary process this does nothing. A fork ends here, and its client runs the command from the start;
    therefore the command must not have written anything yet.
    """
    if refuse is not None:
        refuse()
