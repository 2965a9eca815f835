# The parameters, checked before any job starts.
import sys
from pathlib import Path

from jebm.config.files import choose_params_file, current_params_file, load_yaml
from jebm.errors import JebmError
from jebm.pipeline.workflow import Workflow


def or_one_line(call, *arguments):
    """What a call returns. A user's mistake ends Snakemake there with one line."""
    try:
        return call(*arguments)
    except JebmError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def planned():
    """The workflow of the file that `--configfile` names, or of JEBM_PARAMS or params.yaml.

    Jobs learn of the file by JEBM_PARAMS. Snakemake's `config` is not used: jobs read the file themselves, as they do
    when they are started by hand.
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
