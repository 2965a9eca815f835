"""Jobs of several processes: torchrun with the job's own error message and exit status.

torchrun exits with status 1 and prints its own report for every failure. ``python -m jebm.runtime.torchrun OPTIONS``
runs torchrun with these options, prints the error of the job and exits with the job's status. The status matters: a
run that a signal stopped must exit with 75, which tells a cluster to queue it again.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from jebm.errors import LostRankError

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""The environment variable in which torchrun gives the path of the file for the error of a rank."""
OPTIONS = ("--local-ranks-filter=0", "--signals-to-handle=SIGTERM,SIGINT,SIGUSR1", "--shutdown-timeout=600")
"""Only the output of rank 0 is shown. The signals are passed to all ranks, which are killed if they still run after the
timeout, in seconds; one training step and the saving of its state must fit into it."""


def world_size() -> int:
    """The number of ranks of this job; 0 if torchrun did not start this process."""
    return int(os.environ.get("WORLD_SIZE", 0)) if "RANK" in os.environ else 0


def is_rank_zero() -> bool:
    """Whether this process writes files: rank 0, or a process that torchrun did not start."""
    return not world_size() or os.environ["RANK"] == "0"


def become_torchrun(size: int) -> NoReturn:
    """Replace this process by torchrun, which runs the command of this process as ``size`` ranks."""
    start = [sys.executable, "-m", "jebm.runtime.torchrun", "--standalone", f"--nproc-per-node={size}"]
    sys.stdout.flush()
    os.execv(sys.executable, [*start, "-m", "jebm", *sys.argv[1:]])


def report_error(message: str, status: int) -> None:
    """Print an error message; a rank of torchrun instead writes it to torchrun's error file, in torchrun's format."""
    if not (world_size() and os.environ.get(ERROR_FILE)):
        print(f"error: {message}", file=sys.stderr)
        return
    details = {"timestamp": str(int(time.time())), "py_callstack": message}
    error = {"message": {"message": message, "errorCode": status, "extraInfo": details}}
    file = Path(os.environ[ERROR_FILE])
    part = file.with_suffix(".part")  # torchrun may stop this rank during the write, and fails on an incomplete file
    part.write_text(json.dumps(error), encoding="utf-8")
    part.rename(file)


def exit_with_parent() -> None:
    """In a rank: send SIGTERM to this process, on which training saves its state, once torchrun has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    parent = os.getppid()
    if world_size():
        threading.Thread(target=watch, daemon=True).start()


def main(*options: str) -> int:
    """Run torchrun with these options, print the job's error if there is one, and return the job's exit status."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable()  # torchrun logs every process that it stops
    with tempfile.TemporaryDirectory(prefix="jebm-ranks-") as folder:
        try:
            run.run(run.parse_args([*OPTIONS, f"--log-dir={folder}", *options]))
            return 0
        except ChildFailedError as error:
            ended = {rank: failure.exitcode for rank, failure in error.failures.items()}
            status, message = _reported(folder) or _unreported(ended)
        except SignalException as error:
            status, message = _reported(folder) or (128 + error.sigval, f"stopped by {error.sigval.name}")
    print(f"error: {message}", file=sys.stderr)
    return status


def _reported(folder: str) -> tuple[int, str] | None:
    """Exit status and message of the first error that a rank reported, other than the loss of another rank."""
    files = sorted(Path(folder).glob("*/attempt_*/*/error.json"))
    errors = [json.loads(file.read_text(encoding="utf-8"))["message"] for file in files]
    causes = [error for error in errors if error["errorCode"] != LostRankError.exit_code]
    return (causes[0]["errorCode"], causes[0]["message"]) if causes else None


def _unreported(ended: Mapping[int, int]) -> tuple[int, str]:
    """Exit status and message if no rank reported a cause: they describe the first rank that ended by itself.

    Args:
        ended: rank → exit status, or minus the signal that ended it; in order of time.
    """
    lost = LostRankError.exit_code
    rank, status = next(((rank, status) for rank, status in ended.items() if status != lost), (0, lost))
    if status == lost:
        return 1, "the processes of this job lost each other"
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"failed with status {status}"
    hint = " (out of memory?)" if status == -signal.SIGKILL else ""
    return 1, (
        f"process {rank} of this job {how}{hint}, and the others were stopped. "
        "Run the same command to go on from the last checkpoint"
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
