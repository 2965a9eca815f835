"""The command line: its commands, and how each of them ends. Heavy imports happen inside the commands."""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from jebm import __version__
from jebm.cli import inspect, job, new, tools
from jebm.config.files import VARIABLE, choose_params_file, current_params_file
from jebm.errors import JebmError, SettingError
from jebm.runtime.torchrun import report_error, world_size

app = typer.Typer(
    help="Joint latent-space EBM priors for multi-layer generators, as a reproducible study.\n\n"
    "`snakemake --cores all` runs everything; `jebm run` runs one job of it by hand. "
    "All experiment settings come from params.yaml and the folder params/, or from what --params names. "
    "Start with `jebm list`, `jebm plan` and `jebm show`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (inspect, job, tools):
    app.registered_commands += part.app.registered_commands
app.add_typer(new.app, name="new")


def show_version(asked: bool) -> None:
    if asked:
        print(f"jebm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    params: Annotated[
        Path | None, typer.Option("--params", envvar=VARIABLE, help="The parameter file.", show_default="params.yaml")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if params is not None:
        choose_params_file(params)


def main() -> None:
    """Entry point. Every mistake of a user ends in one message and a non-zero exit status, without a traceback."""
    try:
        app(prog_name="jebm")
    except JebmError as error:
        file = f"{current_params_file()}: " if isinstance(error, SettingError) else ""
        report_error(f"{file}{error}", error.exit_code)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that can't be written to …
        where = f"{error.filename}: " if error.filename else ""
        report_error(f"{where}{error.strerror or error}", 1)
        sys.exit(1)
    except Exception:
        if not world_size():
            raise
        report_error(traceback.format_exc(), 1)  # only rank 0 writes to the terminal
        sys.exit(1)
