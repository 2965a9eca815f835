"""A Slurm of one node on this machine, in a scratch folder, for tests: controller, node daemon and munge.

Needs root, and on Debian the packages slurmctld, slurmd, slurm-client and munge. Nothing is installed here. ``python
tests/support/slurm.py FOLDER`` starts one by hand and stops it at Ctrl-C.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "munged")
SYSTEM = Path("/etc/slurm")
"""The plugin removes SLURM_CONF before its nested srun, so the configuration must be found here."""
# Long times, so that a busy machine is not taken for a failed one. The partitions short and gpu are those of
# profiles/slurm/partitions.yaml.
CONF = """\
ClusterName=jebm
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SchedulerParameters=batch_sched_delay=0,sched_interval=2
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
SlurmdTimeout=300
MessageTimeout=60
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
MpiDefault=none
ReturnToService=2
MinJobAge=36000
KillWait=120
OverTimeLimit=0
JobRequeue=1
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost CPUs={cpus} RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP PreemptMode=OFF PriorityTier=1
PartitionName=spot Nodes=localhost MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=300
PartitionName=requeue Nodes=localhost MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=300
PartitionName=short Nodes=localhost MaxTime=240 State=UP PriorityTier=1 PreemptMode=OFF
PartitionName=gpu Nodes=localhost MaxTime=1440 State=UP PriorityTier=1 PreemptMode=OFF
PartitionName=urgent Nodes=localhost MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
GRES = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
"""Two devices that exist everywhere stand for GPUs."""


def why_not() -> str:
    """Why no Slurm can be started here; empty if it can."""
    absent = [name for name in PROGRAMS if not _program(name)]
    if absent:
        install = "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
        return f"Slurm is not installed ({', '.join(absent)} not found); on Debian: {install}"
    if os.geteuid():
        return "a Slurm of one node can be started by root only"
    if (SYSTEM / "slurm.conf").exists():
        return f"{SYSTEM}/slurm.conf belongs to a Slurm that runs on this machine"
    return ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Slurm:
    """One node that says it has ``cpus`` processors, and two stand-ins for GPUs. The daemons run until :meth:`stop`."""

    def __init__(self, folder: Path, cpus: int = 4):
        self.folder = folder
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "slurm.conf").write_text(CONF.format(folder=folder, cpus=cpus), encoding="utf-8")
        (folder / "gres.conf").write_text(GRES, encoding="utf-8")
        key = folder / "munge.key"
        if not key.exists():
            key.write_bytes(os.urandom(128))
            key.chmod(0o400)

    def start(self) -> "Slurm":
        SYSTEM.mkdir(exist_ok=True)
        for name in ("slurm.conf", "gres.conf"):
            (SYSTEM / name).unlink(missing_ok=True)  # a link to a folder that is gone
            (SYSTEM / name).symlink_to(self.folder / name)
        files = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munged.seed"}
        self._run("munged", "--force", *(f"--{option}={self.folder / name}" for option, name in files.items()))
        self.start_controller("-i")
        self.start_node()
        return self

    def start_controller(self, *options: str) -> None:
        self._run("slurmctld", *options, "-f", str(self.folder / "slurm.conf"))

    def start_node(self) -> None:
        state = ("sinfo", "-h", "-p", "main", "-o", "%T")
        self._run("slurmd", "-f", str(self.folder / "slurm.conf"))
        self.wait_for(lambda: self.query(*state, check=False) in ("idle", "mixed", "allocated"))

    def stop_daemon(self, name: str, number: int = signal.SIGTERM) -> None:
        """End ``slurmctld``, ``slurmd`` or ``munged``, by its own pid file."""
        file = self.folder / f"{name}.pid"
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int(file.read_text())
            os.kill(pid, number)
            self.wait_for(lambda: not Path(f"/proc/{pid}").exists())

    @staticmethod
    def kill_processes_of(job: str) -> None:
        """End every process that a job has started, as a node does that loses its power."""
        mark = f"SLURM_JOB_ID={job}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)

    def stop(self) -> None:
        with suppress(subprocess.SubprocessError, OSError):
            self.query("scancel", "--user", "root", check=False)
            self.wait_for(lambda: not self.query("squeue", "-h", check=False))
        for name in ("slurmd", "slurmctld", "munged"):
            self.stop_daemon(name)
        for name in ("slurm.conf", "gres.conf"):
            (SYSTEM / name).unlink(missing_ok=True)

    def query(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def jobs(self) -> dict[str, str]:
        """Job → state, of all jobs that the controller remembers, the oldest first."""
        return self.fields("%T")

    def fields(self, what: str) -> dict[str, str]:
        """Job → a field of squeue, such as ``%k`` for the comment or ``%P`` for the partition."""
        lines = self.query("squeue", "-h", "-t", "all", "-S", "i", "-o", f"%i {what}").splitlines()
        return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[-1] for line in lines}

    @staticmethod
    def wait_for(condition, timeout: float = 600.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, "waited too long for Slurm"
            time.sleep(0.1)

    def _run(self, name: str, *options: str) -> None:
        subprocess.run([_program(name), *options], check=True)


if __name__ == "__main__":
    slurm = Slurm(Path(sys.argv[1]).absolute()).start()
    print("started; Ctrl-C stops it", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        slurm.stop()
