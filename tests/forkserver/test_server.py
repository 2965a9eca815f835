"""The fork server: a job in a fork is to its caller what it would be as a process, and nothing outlives its owner."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from toy import params

import jebm
from jebm.cli import main as cli
from jebm.config.read import read_params
from jebm.forkserver.server import ForkServer
from jebm.pipeline.code_digest import code_fingerprint
from jebm.pipeline.jobs import study_jobs
from jebm.pipeline.study import make_plan
from jebm.runtime.processes import ADDRESS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the workflow starts no fork server elsewhere")
PACKAGE = Path(jebm.__file__).parent
COMMANDS = '''
"""Stands for the command line of jebm."""
import os, pathlib, signal, sys, time

forked = False

class NeedsOwnProcess(Exception):
    pass

def stop(*_):
    sys.exit(75)

def main():
    verb, *arguments = sys.argv[1:]
    if verb == "exit":
        print("forked" if forked else "alone")
        print("complaint", file=sys.stderr)
        sys.exit(int(arguments[0]))
    if verb == "show":
        print(os.getcwd(), os.environ["COLOUR"], sys.argv[1:], os.getpid() == os.getppid(), flush=True)
        sys.exit(0)
    if verb == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "alone":
        if forked:
            raise NeedsOwnProcess
        print("alone")
        sys.exit(0)
    if verb == "wait":
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, stop)
        pathlib.Path("pid").write_text(str(os.getpid()))
        time.sleep(60)
'''


def until(condition, seconds: float = 20):
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


class Place:
    """A folder with a package whose commands are small, and a server."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "jebm").mkdir()
        for name in ("__init__.py", "__main__.py"):
            shutil.copy(PACKAGE / name, folder / "jebm")
        for name in ("forkserver", "runtime"):
            shutil.copytree(PACKAGE / name, folder / "jebm" / name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "jebm/cli").mkdir()
        (folder / "jebm/cli/__init__.py").touch()
        (folder / "jebm/cli/main.py").write_text(COMMANDS)

    def serve(self) -> ForkServer:
        server = ForkServer(self.folder / "server.log", modules=("json",))
        until(lambda: os.path.exists(server.address))
        return server

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *(command if command[0] == "-c" else ("-m", "jebm", *command))],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "COLOUR": "green"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        process = self.start(*command)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def waiting(self) -> tuple[subprocess.Popen, int]:
        """A client whose job waits for a signal, and the process id of the job."""
        client = self.start("wait")
        file = self.folder / "pid"
        pid = int(until(lambda: file.exists() and file.read_text()))
        file.unlink()
        return client, pid


@pytest.fixture(autouse=True)
def _interruptible():
    """Background jobs of a shell ignore SIGINT, and so would all that the tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv(ADDRESS, raising=False)
    return Place(tmp_path)


@pytest.fixture
def server(place):
    server = place.serve()
    yield server
    server.stop()
    assert gone(server.process.pid)
    assert not Path(server.folder).exists()


@pytest.mark.parametrize("status", [0, 3, 75])
def test_status_and_streams_are_those_of_the_job(place, server, status):
    assert place.run("exit", str(status)) == (status, "forked\n", "complaint\n")


def test_folder_environment_and_arguments_are_those_of_the_client(place, server):
    assert place.run("show", "a b")[1] == f"{place.folder} green ['show', 'a b'] False\n"


def test_an_exception_is_a_traceback_and_a_status(place, server):
    status, _, err = place.run("exit", "word")
    assert status == 1
    assert "ValueError" in err


def test_death_by_a_signal_is_passed_on(place, server):
    assert place.run("die")[0] == -signal.SIGKILL


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, -signal.SIGINT)],
    ids=["SIGTERM", "SIGUSR1", "SIGINT"],
)
def test_signals_reach_the_job(place, server, number, status):
    client, pid = place.waiting()
    assert pid != client.pid
    client.send_signal(number)
    assert client.wait(timeout=20) == status
    assert gone(pid)


def test_an_edit_counts_from_the_next_job_on(place, server):
    assert place.run("exit", "0")[1] == "forked\n"
    path = place.folder / "jebm/cli/main.py"
    path.write_text(path.read_text().replace('"forked"', '"edited, in a fork"'))
    assert place.run("exit", "0")[1] == "edited, in a fork\n"


def test_the_server_is_left_without_zombies(place, server):
    for _ in range(3):
        place.run("exit", "0")
    assert psutil.Process(server.process.pid).children() == []


def test_a_job_ends_with_its_client(place, server):
    client, pid = place.waiting()
    client.kill()
    client.wait()
    until(lambda: gone(pid))
    assert place.run("exit", "0")[1] == "forked\n"


def test_jobs_end_with_the_server(place):
    server = place.serve()
    client, pid = place.waiting()
    server.stop()
    assert client.wait(timeout=20) == 75
    assert gone(pid)
    assert gone(server.process.pid)


def test_everything_ends_with_a_workflow_that_is_killed(place):
    code = """if True:
        import os, subprocess, sys, time
        from pathlib import Path
        from jebm.server import ForkServer
        server = ForkServer(Path("server.log"), modules=("json",))
        while not os.path.exists(server.address):
            time.sleep(0.01)
        print(server.process.pid, server.folder, flush=True)
        subprocess.run([sys.executable, "-m", "jebm", "wait"])
    """
    workflow = place.start("-c", code)
    server, folder = workflow.stdout.readline().split()
    pid = int(until(lambda: (file := place.folder / "pid").exists() and file.read_text()))
    workflow.kill()
    workflow.wait()
    until(lambda: gone(pid) and gone(int(server)))
    assert not Path(folder).exists()


def test_a_server_can_be_stopped_while_it_imports(place):
    server = ForkServer(place.folder / "server.log", modules=("time", "torch"))
    server.stop()
    assert gone(server.process.pid)
    assert not Path(server.folder).exists()
    assert ADDRESS not in os.environ


def test_without_its_server_a_client_works_alone(place, server, monkeypatch):
    server.process.kill()
    server.process.wait()
    assert place.run("exit", "3") == (3, "alone\n", "complaint\n")
    monkeypatch.setenv(ADDRESS, "/nonexistent/socket")
    assert place.run("exit", "3") == (3, "alone\n", "complaint\n")


def test_a_job_that_needs_its_own_process_gets_it(place, server):
    assert place.run("alone") == (0, "alone\n", "")


def test_another_interpreter_is_refused(place, server):
    code = "import sys; sys.prefix = '/other'; sys.argv = ['jebm', 'exit', '0']; import jebm.__main__ as m; m.main()"
    assert place.run("-c", code)[:2] == (0, "alone\n")


@pytest.mark.parametrize("compute", [{"threads": 2}, {"device": "cuda"}, {"devices": 2}], ids=str)
def test_a_fork_leaves_threads_and_gpus_to_a_process_of_its_own(compute, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "forked", True)
    Path("params.yaml").write_text(yaml.safe_dump(params({"toy/compute": compute})))
    plan = next(iter(make_plan(read_params()).values()))
    with pytest.raises(cli.NeedsOwnProcess):
        cli._run(plan.name, "backbone", "", next(iter(plan.variants)), 1)
    assert not Path(".jebm").exists()


def test_what_the_server_imports_starts_no_thread(place):
    server = ForkServer(place.folder / "server.log")
    try:
        until(lambda: os.path.exists(server.address) or server.process.poll() is not None, seconds=120)
        assert psutil.Process(server.process.pid).num_threads() == 1
    finally:
        server.stop()


def test_the_server_is_no_part_of_a_job_s_code():
    plans = make_plan(read_params(PACKAGE.parent / "params.yaml"))
    used = {name for plan in plans.values() for job in study_jobs(plan) for name in code_fingerprint(job.entries)}
    assert not {"jebm.runtime.processes", "jebm.__main__"} & used
    assert not [name for name in used if name.startswith("jebm.forkserver")]
