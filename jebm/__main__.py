"""The start of ``jebm`` and ``python -m jebm``: a fork server does the work where one is running, else this process."""

import os

from jebm.forkserver.client import hand_over
from jebm.runtime.processes import ADDRESS


def main() -> None:
    """Imports the command line only when this process has to do the work itself: a fork has its libraries loaded."""
    if ADDRESS in os.environ:
        hand_over(os.environ[ADDRESS])
    from jebm.cli.main import main

    main()


if __name__ == "__main__":
    main()
