"""Many dry runs of one working copy: ``python dry_runs.py`` imports Snakemake once and forks for each line of targets.

Each answer is one line of JSON: the exit status and the jobs, as ``[rule, first output]``. The fork imports ``jebm``
itself, from the working copy, as a new process would.
"""

import contextlib
import io
import json
import os
import re
import sys

JOB = re.compile(r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    output: ([^,\n]+)", re.MULTILINE)


def answer(arguments: list[str]) -> list:
    """Run Snakemake in this process."""
    from snakemake.cli import main

    out = io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(arguments)
        except SystemExit as left:
            status = left.code or 0
    text = out.getvalue()
    return [status, JOB.findall(text), "" if status == 0 else text[-2000:]]


if __name__ == "__main__":
    import snakemake.cli  # noqa: F401 - this is what takes time

    for line in sys.stdin:
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, json.dumps(answer(json.loads(line))).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            print(pipe.read(), flush=True)
        os.wait()
