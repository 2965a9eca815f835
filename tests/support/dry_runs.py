"""Many dry runs of one working copy: ``python dry_runs.py``, in it, imports Snakemake once and forks for each question.

A question is a line of JSON, a list of commands; the answer is a line with what each printed: ``snakemake …`` the exit
status and the jobs as ``[rule, first output]``, ``jebm …`` the exit status and the text. The forks import ``jebm``
themselves, from the working copy, as new processes would.
"""

import contextlib
import importlib
import io
import json
import os
import re
import sys

JOB = re.compile(r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    output: ([^,\n]+)", re.MULTILINE)


def forked(work, *arguments):
    """What a function returns in a fork, by JSON."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        with os.fdopen(write, "w", encoding="utf-8") as pipe:
            json.dump(work(*arguments), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        found = json.load(pipe)
    os.wait()
    return found


def run(command: list[str]) -> list:
    """Exit status, jobs and text of one command."""
    if command[0] == "snakemake":
        from snakemake.cli import main
    else:
        from jebm.cli.main import main
    out, status = io.StringIO(), 0
    sys.argv = command
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(*([command[1:]] if command[0] == "snakemake" else []))
        except SystemExit as left:
            status = left.code or 0
    return [status, JOB.findall(out.getvalue()), out.getvalue()]


def answers(commands: list[list[str]]) -> list:
    """Run each command in a fork that has the package imported."""
    import jebm.cli.main
    import jebm.pipeline.workflow  # noqa: F401

    return [forked(run, command) for command in commands]


def loaded(command: list[str]) -> list[str]:
    """The modules besides the package's own that a command has imported when it ends."""
    run(command)
    return [name for name in sys.modules if name.partition(".")[0] != "jebm"]


if __name__ == "__main__":
    for module in forked(loaded, ["snakemake", "-n", "--cores", "1"]):  # importing them is what takes time
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(forked(answers, json.loads(line))), flush=True)
