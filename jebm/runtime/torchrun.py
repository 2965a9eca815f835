"""Jobs of several processes: what a rank that torchrun started has to know, and torchrun with the job's exit status.

torchrun ends with status 1 and a report of its own whatever happened. ``python -m jebm.runtime.torchrun OPTIONS`` is
torchrun with the same options that prints the one error of the job and exits with its status: a run that was asked to
stop must end with 75, by which clusters know to queue it again.
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
"""The environment variable in which torchrun names the file for a rank's error."""
OPTIONS = ("--local-ranks-filter=0", "--signals-to-handle=SIGTERM,SIGINT,SIGUSR1", "--shutdown-timeout=600")
"""Only rank 0 is heard. These signals go to all ranks, which are killed if they have not ended so many seconds later: a
step of training and the writing of its state must fit in."""


def world_size() -> int:
    """The number of ranks of this job; 0 if torchrun did not start it."""
    return int(os.environ.get("WORLD_SIZE", 0)) if "RANK" in os.environ else 0


def is_rank_zero() -> bool:
    """Whether this process is the one that writes files."""
    return not world_size() or os.environ["RANK"] == "0"


def become_torchrun(size: int) -> NoReturn:
    """Replace this process by one that runs its command as ``size`` ranks."""
    start = [sys.executable, "-m", "jebm.runtime.torchrun", "--standalone", f"--nproc-per-node={size}"]
    sys.stdout.flush()
    os.execv(sys.executable, [*start, "-m", "jebm", *sys.argv[1:]])


def report_error(message: str, status: int) -> None:
    """Say what went wrong: to the user, or, in a rank, to torchrun, which gets it in the form that it reads."""
    if not (world_size() and os.environ.get(ERROR_FILE)):
        print(f"error: {message}", file=sys.stderr)
        return
    details = {"timestamp": str(int(time.time())), "py_callstack": message}
    error = {"message": {"message": message, "errorCode": status, "extraInfo": details}}
    file = Path(os.environ[ERROR_FILE])
    part = file.with_suffix(".part")  # torchrun may stop this rank while it writes, and fails on half a file
    part.write_text(json.dumps(error), encoding="utf-8")
    part.rename(file)


def exit_with_parent() -> None:
    """In a rank: stop by SIGTERM, on which training saves its state, when torchrun is gone, however it ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    parent = os.getppid()
    if world_size():
        threading.Thread(target=watch, daemon=True).start()


def main(*options: str) -> int:
    """Run torchrun with these options; prints the job's error if there is one, and returns the job's exit status."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable()  # torchrun's account of every process that it stops
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
    """Exit status and message of the error that a rank reported; that it lost another rank is not the cause."""
    files = sorted(Path(folder).glob("*/attempt_*/*/error.json"))
    errors = [json.loads(file.read_text(encoding="utf-8"))["message"] for file in files]
    causes = [error for error in errors if error["errorCode"] != LostRankError.exit_code]
    return (causes[0]["errorCode"], causes[0]["message"]) if causes else None


def _unreported(ended: Mapping[int, int]) -> tuple[int, str]:
    """Exit status and message when no rank reported a cause: of the first rank that ended by itself.

    Args:
        ended: rank → its exit status, or minus the signal that ended it, in order of time.
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
