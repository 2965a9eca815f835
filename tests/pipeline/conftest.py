"""An empty folder in which the toy study's jobs run one small module."""

import pytest

from jebm.pipeline import code_digest


class Code:
    """The package of that module; an edit counts as in a new process."""

    def __init__(self, folder):
        self.module = folder / "package/work.py"
        self.module.parent.mkdir()
        (folder / "package/__init__.py").write_text("", encoding="utf-8")
        self.edit("x = 1\n")

    def edit(self, text: str) -> None:
        self.module.write_text(text, encoding="utf-8")
        self.forget()

    def forget(self) -> None:
        for cached in (code_digest._scan, code_digest._remembered, code_digest._is_module):
            cached.cache_clear()


@pytest.fixture
def code(tmp_path, monkeypatch):
    """The code of all jobs of ``toy_jobs``, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(code_digest, "PACKAGE", tmp_path / "elsewhere/package")
    code = Code(tmp_path / "elsewhere")
    yield code
    code.forget()
