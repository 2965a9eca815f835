"""The fork server: to its caller a job in a fork behaves like a process, and no process outlives the workflow."""

import ast
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

from jebm.cli import job as cli
from jebm.config.read import read_params
from jebm.forkserver import refusal
from jebm.forkserver.client import ADDRESS
from jebm.forkserver.server import HEAVY, ForkServer
from jebm.pipeline.code_digest import PACKAGE, code_fingerprint
from jebm.pipeline.jobs import study_jobs
from jebm.pipeline.study import make_plan

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the workflow starts no fork server elsewhere")
STEP = "run"
"""The name of a command that the server may run; the toy command below takes its arguments."""
COMMANDS = '''
"""The toy command line."""
import os, pathlib, signal, sys, time
from jebm.forkserver import refusal

def stop(*_):
    sys.exit(75)

def main():
    verb, *arguments = sys.argv[2:]
    if verb == "exit":
        print("forked" if refusal.refuse else "alone")
        print("complaint", file=sys.stderr)
        sys.exit(int(arguments[0]))
    if verb == "show":
        print(os.getcwd(), os.environ["COLOUR"], arguments, os.getpid() == os.getppid(), flush=True)
        sys.exit(0)
    if verb == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "alone":
        refusal.require_own_process()
        print("alone")
        sys.exit(0)
    if verb == "wait":
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, stop)
        pathlib.Path("pid").write_text(str(os.getpid()))
        for _ in range(3000):
            time.sleep(0.02)  # as training looks for signals after each step
'''


def command(*arguments: str, step: str = STEP, first: str = "") -> str:
    """Python code that runs some statements and then ``jebm STEP ARGUMENTS``."""
    return f"import sys; {first}\nsys.argv = {['jebm', step, *arguments]}\nimport jebm.__main__ as m; m.main()"


def until(condition, seconds: float = 20):
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Place:
    """A folder with a package of small commands, and a server."""

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.copytree(PACKAGE / "forkserver", folder / "jebm/forkserver")
        for name in ("cli", "runtime"):
            (folder / "jebm" / name).mkdir()
        (folder / "jebm/cli/__init__.py").touch()
        for name in ("__init__", "__main__", "runtime/__init__", "runtime/threads"):
            shutil.copy(PACKAGE / f"{name}.py", folder / "jebm" / f"{name}.py")
        self.commands = folder / "jebm/cli/main.py"
        self.commands.write_text(COMMANDS)

    def serve(self) -> ForkServer:
        server = ForkServer(self.folder / "server.log", modules=("json",))
        until(lambda: os.path.exists(server.address))
        return server

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *(command if command[0] == "-c" else ("-m", "jebm", STEP, *command))],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "COLOUR": "green", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **environment: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        process = self.start(*command, **environment)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def waiting(self, *command: str) -> tuple[subprocess.Popen, int]:
        """A client whose job waits for a signal, and the process id of the job."""
        client = self.start(*command or ["wait"])
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
    monkeypatch.chdir(tmp_path)  # where the server finds the package first
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
def test_status_and_standard_streams_are_those_of_the_job(place, server, status):
    assert place.run("exit", str(status)) == (status, "forked\n", "complaint\n")


def test_folder_environment_and_arguments_are_those_of_the_client(place, server):
    assert place.run("show", "a b")[1] == f"{place.folder} green ['a b'] False\n"


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


ANOTHER_THREAD = """import signal, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
"""
"""Before a client: another thread gets SIGTERM, which so interrupts no blocking call of the client. Python knows of it
then and runs no handler before the call returns, as when a signal arrives between Python's check and the call."""


def test_a_signal_that_arrives_just_before_a_blocking_call_reaches_the_job(place, server):
    client, pid = place.waiting("-c", command("wait", first=ANOTHER_THREAD))
    client.send_signal(signal.SIGTERM)
    assert client.wait(timeout=20) == 75
    assert gone(pid)


def test_a_signal_for_which_there_is_no_fork_any_more_ends_the_client(place, server):
    """The client must not run the command itself after a signal to stop."""
    server.process.send_signal(signal.SIGSTOP)
    client = place.start("wait")
    time.sleep(1)  # for the client to send its request; if it has not yet, the signal ends it all the same
    client.send_signal(signal.SIGTERM)
    server.process.kill()
    assert client.wait(timeout=20) == -signal.SIGTERM


def test_an_edit_counts_from_the_next_job_on(place, server):
    assert place.run("exit", "0")[1] == "forked\n"
    times = place.commands.stat()
    place.commands.write_text(COMMANDS.replace('"forked"', '"edited"'))
    os.utime(place.commands, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert place.run("exit", "0")[1] == "edited\n"


def test_the_package_is_imported_by_the_server_and_not_once_more_by_each_job(place):
    place.commands.write_text(f"import os\nprint(os.getpid(), flush=True)\n{COMMANDS}")
    server = place.serve()
    try:
        assert [place.run("exit", "0")[1] for _ in range(2)] == ["forked\n"] * 2
        assert (place.folder / "server.log").read_text() == f"{server.process.pid}\n"
    finally:
        server.stop()


def test_a_client_with_another_copy_of_the_package_gets_that_copy(place, server, tmp_path_factory):
    other = Place(tmp_path_factory.mktemp("other"))
    other.commands.write_text(COMMANDS.replace('"forked"', '"the other"'))
    assert other.run("exit", "0")[1] == "the other\n"
    assert place.run("exit", "0")[1] == "forked\n"


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
        from jebm.forkserver.server import ForkServer
        server = ForkServer(Path("server.log"), modules=("json",))
        while not os.path.exists(server.address):
            time.sleep(0.01)
        print(server.process.pid, server.folder, flush=True)
        subprocess.run([sys.executable, "-m", "jebm", "%s", "wait"])
    """
    workflow = place.start("-c", code % STEP)
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
    assert place.run("-c", command("exit", "0", first="sys.prefix = '/other'"))[:2] == (0, "alone\n")


def test_a_job_of_a_batch_scheduler_is_not_run_by_the_server_of_another_process(place, server):
    assert place.run("exit", "0", SLURM_JOB_ID="7")[1] == "alone\n"
    assert place.run("exit", "0")[1] == "forked\n"


def test_a_process_of_another_control_group_is_refused(place, server):
    """Schedulers whose variables are unknown here put their jobs into control groups."""
    (place.folder / "cgroup").write_text("0::/job_7\n")
    first = "import jebm.forkserver.client as client; client.CONTROL_GROUP = 'cgroup'"
    assert place.run("-c", command("exit", "0", first=first))[1] == "alone\n"


def test_only_a_step_of_the_pipeline_is_handed_over(place, server):
    """Other commands, and ranks of torchrun, run in the process that was started."""
    assert place.run("-c", command("exit", "0", step="show"))[1] == "alone\n"
    assert place.run("exit", "0", RANK="0")[1] == "alone\n"


class RefusedError(Exception):
    """Raised in place of the end of a fork."""


@pytest.mark.parametrize("compute", [{"threads": 2}, {"device": "cuda"}, {"devices": 2}], ids=str)
def test_a_fork_leaves_threads_and_gpus_to_a_process_of_its_own(compute, tmp_path, monkeypatch):
    def refuse():
        raise RefusedError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(refusal, "refuse", refuse)
    Path("params.yaml").write_text(yaml.safe_dump(params({"toy/compute": compute})))
    plan = next(iter(make_plan(read_params()).values()))
    with pytest.raises(RefusedError):
        cli.run("train_backbone", plan.name, variant=next(iter(plan.variants)), seed=1)
    assert not Path(".jebm").exists()


def test_what_the_server_imports_starts_no_thread(place):
    server = ForkServer(place.folder / "server.log")
    try:
        until(lambda: os.path.exists(server.address) or server.process.poll() is not None, seconds=120)
        assert psutil.Process(server.process.pid).num_threads() == 1
    finally:
        server.stop()


def test_the_server_imports_what_the_steps_of_the_pipeline_import():
    """Modules that few jobs need are excepted."""
    code = "import importlib, sys; [importlib.import_module(n) for n in sys.argv[1:]]; print(*sys.modules)"
    there = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True).stdout
    others = {"bench", "cli", "forkserver", "pipeline", "runtime"}
    paths = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in others]
    found = {node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))}
    names = {node.module for node in found if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
    missing = {name for name in names - set(there.split()) if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name for name in missing if not name.startswith("jebm")} == {"lmdb", "snakesee.plugins.base"}


def test_the_server_is_no_part_of_a_job_s_code():
    plans = make_plan(read_params(PACKAGE.parent / "params.yaml"))
    used = {name for plan in plans.values() for job in study_jobs(plan) for name in code_fingerprint(job.entries)}
    assert not [name for name in used if name.startswith(("jebm.forkserver", "jebm.__main__"))]


def test_a_module_that_can_not_be_imported_does_not_keep_the_server_from_starting(place):
    (place.folder / "jebm/cli/broken.py").write_text("import no_such_library\n")
    server = place.serve()
    try:
        assert place.run("exit", "0")[1] == "forked\n"
    finally:
        server.stop()
