"""What is said of a job of several processes when some of them fail."""

import signal

import pytest
from torch.distributed.elastic.multiprocessing.api import RunProcsResult
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from jebm.errors import DivergedError, LostRankError
from jebm.runtime import launch

LOST = LostRankError.exit_code


@pytest.fixture
def verdict(tmp_path, monkeypatch):
    """Exit status and message for ranks given as rank=(how the process ended, what it told), in order of their end."""

    def decide(ended, sent=()):
        failures, logs = {}, {}
        for rank, (status, told) in ended.items():
            path = tmp_path / f"{rank}.json"
            logs[rank] = str(tmp_path / f"{rank}.log")
            (tmp_path / f"{rank}.log").write_text(f"Traceback of {rank}\n")
            if told:
                for key, value in {"RANK": rank, "WORLD_SIZE": 3, launch.ERRORS: path}.items():
                    monkeypatch.setenv(key, str(value))
                launch.tell(*told)
            failures[rank] = ProcessFailure(local_rank=rank, pid=1, exitcode=status, error_file=str(path))
        return launch._verdict(RunProcsResult(failures=failures, stderrs=logs), 3, list(sent))

    return decide


def test_a_told_error_is_said_with_its_own_status(verdict):
    told = ("the loss is nan", DivergedError.exit_code)
    assert verdict({1: (3, told), 0: (3, told)}) == (3, "error: the loss is nan")


def test_a_rank_that_was_stopped_while_it_exited_has_told_all_the_same(verdict):
    assert verdict({0: (-15, ("stopped by SIGTERM at step 7", 75))}, [signal.SIGTERM]) == (
        75,
        "error: stopped by SIGTERM at step 7",
    )


def test_the_rank_that_was_lost_is_the_cause_and_not_the_one_that_lost_it(verdict):
    status, message = verdict({0: (LOST, ("lost", LOST)), 1: (-9, None), 2: (-15, ("lost", LOST))})
    assert status == 1
    assert message.startswith(
        "error: process 1 of 3 was ended by SIGKILL (out of memory?), and the others were stopped"
    )


def test_the_first_crash_is_shown_and_not_the_ranks_that_were_stopped_after_it(verdict):
    assert verdict({1: (1, None), 0: (-15, None), 2: (-15, None)}) == (
        1,
        "Traceback of 1\nerror: process 1 of 3 failed, and the others were stopped",
    )


def test_a_crash_of_rank_0_is_on_the_screen_already(verdict):
    assert verdict({0: (1, None), 1: (-15, None)})[1].startswith("error: process 0 of 3 failed")


def test_a_signal_that_ends_the_ranks_ends_the_launcher(verdict):
    assert verdict({0: (-15, None), 1: (-15, None)}, [signal.SIGTERM]) == (-15, "")


def test_connections_lost_without_a_cause_are_said(verdict):
    assert verdict({0: (LOST, ("the connection was lost", LOST))}) == (1, "error: the connection was lost")


def test_alone_an_error_goes_to_the_user(capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    launch.tell("something", 1)
    assert capsys.readouterr().err == "error: something\n"
