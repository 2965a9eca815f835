"""A working copy of the repository, driven through the real tools."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TOP = ("Snakefile", "dvc.yaml", "params.yaml", "pyproject.toml", "requirements.lock", ".dvcignore", ".gitignore")
FOLDERS = ("jebm", "workflow", "profiles", "params")


def raw_params(folder: Path) -> dict:
    """The parameters of a project as one file would hold them."""
    content = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    files = sorted((folder / "params").glob("*.yaml"))
    return content | {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}


class Workspace:
    """A copy of the repository; ``run`` calls a command in it as a user would."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in TOP:
            shutil.copy(ROOT / name, folder / name)
        for name in FOLDERS:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def environment(self) -> dict[str, str]:
        """This copy's package and the environment's tools first on the paths."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(self.folder)}

    def start(self, *command: str, **options) -> subprocess.Popen:
        """A command in the background, its output in one pipe."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def run(self, *command: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        """Run a command to its end; its output is in the failure message."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, **options
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def params(self) -> dict:
        return raw_params(self.folder)

    def write_params(self, params: dict) -> None:
        """Put all parameters into params.yaml."""
        shutil.rmtree(self.folder / "params", ignore_errors=True)
        pipeline = self.folder / "dvc.yaml"
        lines = pipeline.read_text(encoding="utf-8").splitlines(keepends=True)
        pipeline.write_text("".join(line for line in lines if line.strip() != "- params"), encoding="utf-8")
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")
