"""Which files hold the parameters, and reading YAML without losing anything.

The parameter file is ``params.yaml``, or what ``jebm --params``, ``snakemake --configfile`` or the environment variable
``JEBM_PARAMS`` names. It holds the lists of studies, ``runtime``, ``presets``, ``assets`` and any number of studies,
each under its name. What grows long may stand in the folder beside it that has its name without the ending
(``params.yaml``: ``params/``): each file there is one study, named like the file, and ``assets.yaml`` is the block
``assets``. A file without such a folder is complete by itself; nothing of ``params.yaml`` is added to it.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from jebm.errors import ParamsError

VARIABLE = "JEBM_PARAMS"
"""The environment variable that names the parameter file; jobs of a workflow inherit it."""


def current_params_file() -> Path:
    """The parameter file of this process."""
    return Path(os.environ.get(VARIABLE) or "params.yaml")


def choose_params_file(path: Path) -> None:
    """Let this process and those that it starts read another parameter file."""
    inside = path.is_absolute() and path.is_relative_to(Path.cwd())
    os.environ[VARIABLE] = str(path.relative_to(Path.cwd()) if inside else path)


def params_files(path: Path) -> list[Path]:
    """A parameter file, and the files of the folder beside it that belong to it."""
    return [path, *sorted(path.with_suffix("").glob("*.yaml"))]


def load_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ParamsError: there is no such file, it is no YAML, or a block has a key twice.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (FileNotFoundError, IsADirectoryError):
        advice = "run from the repository's top folder, or name another file by --params"
        raise ParamsError(f"{path}: no such file; {advice}") from None


def parse_yaml(text: str, source: str) -> Any:
    """YAML that is already in memory, named in messages; see :func:`load_yaml`."""
    try:
        return yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise ParamsError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML keeps the last of two equal keys and says nothing; an experiment must not depend on that.

    Every job reads the files: libyaml's parser, where PyYAML has it, takes a tenth of the time.
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
