"""Jobs of several processes under torchrun: one message, the job's exit status, and no rank outlives torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jebm.errors import DivergedError, InterruptedRunError, LostRankError
from jebm.runtime import torchrun

RANK = '''
"""A script in place of a rank: runs the statements for its rank, with `report` for errors and `wait` for signals."""
import os, pathlib, signal, sys, time
from jebm.runtime.torchrun import exit_with_parent, report_error, world_size

def report(message, status):
    report_error(message, status)
    sys.exit(status)

def wait(then=None):
    if then:
        signal.signal(signal.SIGTERM, lambda number, _: then(signal.Signals(number).name))
        signal.signal(signal.SIGUSR1, lambda number, _: then(signal.Signals(number).name))
    pathlib.Path(f"pid{rank}").write_text(str(os.getpid()))
    for _ in range(3000):
        time.sleep(0.02)

exit_with_parent()
rank = int(os.environ["RANK"])
print("rank", rank, "of", world_size(), flush=True)
exec(sys.argv[1 + rank])
'''


class Started:
    """``python -m jebm.runtime.torchrun`` with two ranks."""

    def __init__(self, folder: Path, *code: str):
        self.folder = folder
        (folder / "rank.py").write_text(RANK)
        command = [sys.executable, "-m", "jebm.runtime.torchrun", "--standalone", "--nproc-per-node=2", "rank.py"]
        self.process = subprocess.Popen(
            [*command, *code],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ranks(self) -> list[psutil.Process]:
        """The process ids of the ranks, once they wait."""
        files = [self.folder / f"pid{rank}" for rank in range(2)]
        end = time.monotonic() + 60
        while not all(file.exists() and file.read_text() for file in files):
            assert time.monotonic() < end
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        return [psutil.Process(int(file.read_text())) for file in files]

    def end(self) -> tuple[int, str, list[str]]:
        """Exit status, standard output and the lines of standard error."""
        out, err = self.process.communicate(timeout=60)
        assert not list(self.folder.glob("jebm-ranks-*"))
        return self.process.returncode, out, err.splitlines()


@pytest.fixture
def start(tmp_path):
    return lambda *code: Started(tmp_path, *code)


def test_only_rank_0_is_heard(start):
    assert start("", "").end() == (0, "rank 0 of 2\n", [])


def test_a_reported_error_is_printed_once_with_its_own_status(start):
    code = f"report('the loss is nan', {DivergedError.exit_code})"
    assert start(code, code).end()[::2] == (DivergedError.exit_code, ["error: the loss is nan"])


def test_a_lost_rank_is_not_the_cause(start):
    lost = f"report('connection lost', {LostRankError.exit_code})"
    after = f"while not pathlib.Path('pid1').exists(): time.sleep(0.02)\n{lost}"  # rank 1 has its signal handlers then
    assert start(after, "wait(lambda _: report('no space left', 1))").end()[::2] == (1, ["error: no space left"])
    status, _, errors = start(lost, "os.kill(os.getpid(), signal.SIGKILL)").end()
    assert status == 1
    assert errors[0].startswith("error: process 1 of this job was ended by SIGKILL (out of memory?), and the others")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=str)
def test_a_signal_to_torchrun_reaches_all_ranks_which_end_as_they_like(start, number):
    code = f"wait(lambda name: report(f'stopped by {{name}}', {InterruptedRunError.exit_code}))"
    started = start(code, code)
    started.ranks()
    started.process.send_signal(number)
    assert started.end()[::2] == (75, [f"error: stopped by {number.name}"])


def test_ranks_that_a_signal_ends_end_torchrun_with_its_number(start):
    started = start("wait()", "wait()")
    started.ranks()
    started.process.send_signal(signal.SIGTERM)
    assert started.end()[::2] == (128 + signal.SIGTERM, ["error: stopped by SIGTERM"])


def test_ranks_end_with_torchrun(start):
    started = start("wait()", "wait()")
    ranks = started.ranks()
    started.process.kill()
    assert not psutil.wait_procs(ranks, timeout=20)[1]


def test_torchrun_itself_reads_what_is_reported(tmp_path, monkeypatch):
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    file = tmp_path / "error.json"
    for key, value in {"RANK": "1", "WORLD_SIZE": "2", torchrun.ERROR_FILE: str(file)}.items():
        monkeypatch.setenv(key, value)
    torchrun.report_error("the loss is nan", 3)
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=3, error_file=str(file))
    assert failure.message["extraInfo"]["py_callstack"] == "the loss is nan"
    assert time.time() - failure.timestamp < 60
    assert json.loads(file.read_text())["message"]["errorCode"] == 3


def test_alone_an_error_goes_to_the_user(capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    torchrun.report_error("something", 1)
    assert capsys.readouterr().err == "error: something\n"
