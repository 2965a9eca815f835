"""How a command that runs in a fork says that it needs a process of its own."""

from collections.abc import Callable
from typing import NoReturn

refuse: Callable[[], NoReturn] | None = None
"""Set by the server in each fork; None in every other process."""


def require_own_process() -> None:
    """Call this where the libraries must not have been imported already, for one thread and without a GPU.

    An ordinary process returns. A fork ends here, and its client runs the command from the start, so this must come
    before anything is written.
    """
    if refuse is not None:
        refuse()
