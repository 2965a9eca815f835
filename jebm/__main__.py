"""The start of ``jebm`` and ``python -m jebm``: a fork server runs the command if there is one, else this process."""

import os
import sys

from jebm.forkserver.client import ADDRESS, run_in_server

ENTRY = "jebm.cli.main:main"
STEPS = {"run"}
"""The commands that a workflow runs by the hundred, and which a server may run."""


def main() -> None:
    """Imports the command line only when this process has to run it: a fork has its libraries loaded."""
    alone = ADDRESS not in os.environ or "RANK" in os.environ  # a rank of torchrun has no server to ask
    if not alone and set(sys.argv[1:2]) & STEPS:
        run_in_server(os.environ[ADDRESS], ENTRY)
    from jebm.cli.main import main

    main()


if __name__ == "__main__":
    main()
