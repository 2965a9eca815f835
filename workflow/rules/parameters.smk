# The parameters, checked before any job starts.
import sys
from pathlib import Path

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
    return Workflow()
