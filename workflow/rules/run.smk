# What happens before the first job and after the last, and the report's first page.
import importlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from jebm.forkserver.client import ADDRESS
from jebm.forkserver.server import ForkServer
from jebm.pipeline.slurm_status import repair_status_checks
from jebm.pipeline.stages import RESULTS
from jebm.pipeline.terminal import Terminal
from jebm.runtime.timers import cancel_long_timers

TERMINAL = Terminal()
TERMINAL.attach()
SERVERS = []
# The monitor snakesee takes a file in this folder for the sign that Snakemake runs; the profiles have `nolock`. Snakemake
# looks for other names there.
MARK = Path(".snakemake/locks/jebm")


def begin():
    """Before the first job. On Linux, jobs on this machine are then forked from one process with the libraries loaded.
    On macOS this is impossible, because Apple's Accelerate library does not work after a fork. A server that the caller
    has started serves several runs of Snakemake, as the tests do."""
    or_one_line(FLOW.begin)
    if workflow.non_local_exec:
        with suppress(ImportError):  # another executor
            repair_status_checks(importlib.import_module("snakemake_executor_plugin_slurm"))
    cancel_long_timers()
    MARK.parent.mkdir(parents=True, exist_ok=True)
    MARK.touch()
    TERMINAL.begin()
    if not FLOW.params.runtime.fork_server:
        os.environ.pop(ADDRESS, None)
    elif sys.platform == "linux" and ADDRESS not in os.environ:
        with suppress(OSError):
            SERVERS.append(ForkServer(Path("logs/server.log")))


def end():
    """Stop the server at once; it would also end by itself soon after this process."""
    MARK.unlink(missing_ok=True)
    while SERVERS:
        SERVERS.pop().stop()
    TERMINAL.end()


def show_results():
    """Print the tables that were asked for, and the paths of results: of a study its main table."""
    for study, table in FLOW.asked_tables(workflow.dag_settings.targets):
        if (RESULTS / study / "tables" / f"{table}.md").exists():
            subprocess.run(["jebm", "show", study, "--table", table], check=False)


def report_page():
    """The first page of the report, which is written when a report is asked for."""
    if "--report" not in sys.argv:
        return "workflow/report/study.rst"
    from jebm.report.front_page import write_front_page

    asked = dict.fromkeys(study for study, _ in FLOW.asked_tables(targets_asked())) or DEFAULT_STUDIES
    return str(write_front_page([FLOW.plans[name] for name in asked]))


onstart:
    begin()


onsuccess:
    end()
    show_results()


onerror:
    end()
    TERMINAL.fail()
