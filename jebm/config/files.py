"""The parameter files, and strict reading of YAML.

The parameter file is ``params.yaml``, or the file that ``jebm --params``, ``snakemake --configfile`` or the environment
variable ``JEBM_PARAMS`` names. It holds the lists of studies, ``runtime``, ``presets``, ``assets`` and any number of
studies, each under its name. Long parts may be moved to the folder beside it that has its name without the ending
(``params.yaml``: ``params/``): each file there is one study, named like the file, and ``assets.yaml`` is the block
``assets``. A file without such a folder is complete; nothing from ``params.yaml`` is added to it.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from jebm.errors import ParamsError

VARIABLE = "JEBM_PARAMS"
"""Environment variable that names the parameter file; jobs of a workflow inherit it."""


def current_params_file() -> Path:
    """The parameter file of this process."""
    return Path(os.environ.get(VARIABLE) or "params.yaml")


def choose_params_file(path: Path) -> None:
    """Make this process and its child processes read another parameter file."""
    inside = path.is_absolute() and path.is_relative_to(Path.cwd())
    os.environ[VARIABLE] = str(path.relative_to(Path.cwd()) if inside else path)


def params_files(path: Path) -> list[Path]:
    """A parameter file, and the files in the folder that belongs to it."""
    return [path, *sorted(path.with_suffix("").glob("*.yaml"))]


def load_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ParamsError: the file does not exist, is not valid YAML, or has a key twice in one block.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (FileNotFoundError, IsADirectoryError):
        advice = "run from the repository's top folder, or name another file by --params"
        raise ParamsError(f"{path}: no such file; {advice}") from None


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text; ``source`` names it in messages. See :func:`load_yaml`."""
    try:
        return yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise ParamsError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML silently keeps the last of two equal keys, which must not change an experiment, so they are refused.

    Every job reads the files: libyaml's parser, if PyYAML has it, takes a tenth of the time.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key '{key}' stands twice in one block")
            seen.add(key)
        return super().construct_mapping(node, deep)
