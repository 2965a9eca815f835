# The parameters, checked before any job starts.
import sys
from pathlib import Path

from snakemake.cli import get_argument_parser

from jebm.config.files import choose_params_file, current_params_file, load_yaml
from jebm.errors import JebmError
from jebm.pipeline.workflow import Workflow


def or_one_line(call, *arguments):
    """Return the result of a call. If it reports a mistake of the user, print one line and end Snakemake."""
    try:
        return call(*arguments)
    except JebmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def planned():
    """The workflow of the parameter file that `--configfile` or JEBM_PARAMS names, or of params.yaml.

    Jobs receive the name of the file in JEBM_PARAMS and read it themselves, as when they are started by hand.
    Snakemake's `config` is not used.
    """
    files = workflow.overwrite_configfiles
    if len(files) > 1:
        raise JebmError("--configfile: takes one parameter file here, and targets stand before it")
    if files:
        choose_params_file(Path(files[0]))
    if config != (load_yaml(Path(files[0])) if files else {}):
        raise JebmError(
            f"--config: parameters come from {current_params_file()} alone; edit it, set a key of it by "
            "`dvc exp run --set-param`, or name another file by --configfile"
        )
    flow = Workflow(lambda: None if workflow.dryrun else workflow.local_exec)
    if workflow.is_main_process and any(not word.startswith("-") for word in sys.argv[1:]):
        flow.check_targets(targets_asked())
    return flow


def targets_asked():
    """The targets on the command line. Snakemake has parsed it, but keeps the targets until the Snakefile is read."""
    try:
        return get_argument_parser().parse_args(sys.argv[1:]).targets
    except SystemExit:  # this is not the command line of Snakemake, but of a program that uses it
        return []
