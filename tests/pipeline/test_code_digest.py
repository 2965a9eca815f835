"""What a job's code is, read from the modules or remembered from when they were read."""

import os

import pytest

from jebm.pipeline import code_digest as fingerprint
from jebm.pipeline.code_digest import code_fingerprint, save_scans

ENTRY = frozenset({"jebm.first"})


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules, and a process that has read none."""
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(fingerprint, "SCANS", tmp_path / "modules.json")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "package/first.py").write_text("from jebm import second\n", encoding="utf-8")
    (tmp_path / "package/second.py").write_text("import json\nx = 1\n", encoding="utf-8")
    yield tmp_path / "package"
    forget()


def forget():
    """Be a new process."""
    for cached in (fingerprint._scan, fingerprint._remembered, fingerprint._is_module):
        cached.cache_clear()


def read():
    forget()
    return code_fingerprint(ENTRY)


def test_what_was_remembered_is_not_read_again(package, monkeypatch):
    fresh = read()
    assert set(fresh) == {"jebm", "jebm.first", "jebm.second"}
    save_scans([ENTRY])
    monkeypatch.setattr(fingerprint, "_read", None)
    assert read() == fresh


def test_an_edit_is_noticed_behind_an_old_time_and_an_equal_size(package):
    before, module = read(), package / "second.py"
    save_scans([ENTRY])
    times = module.stat().st_atime_ns, module.stat().st_mtime_ns
    module.write_text("import json\nx = 2\n", encoding="utf-8")
    os.utime(module, ns=times)
    after = read()
    assert after["jebm.first"] == before["jebm.first"]
    assert after["jebm.second"] != before["jebm.second"]


def test_a_name_that_becomes_a_module_is_followed(package):
    (package / "first.py").write_text("from jebm import second, third\n", encoding="utf-8")
    read()
    save_scans([ENTRY])
    (package / "third.py").write_text("y = 1\n", encoding="utf-8")
    assert "jebm.third" in read()


@pytest.mark.parametrize("content", ["", "{", '{"python": "2.7", "files": {}}'])
def test_a_damaged_or_foreign_memory_is_not_used(package, content):
    expected = read()
    fingerprint.SCANS.write_text(content, encoding="utf-8")
    assert read() == expected


@pytest.mark.parametrize("name", ["config.types", "pipeline.study", "cli.main", "forkserver.client"])
def test_what_is_compared_by_value_is_no_code(package, name):
    (package / "first.py").write_text(f"from jebm.{name} import x\nfrom jebm import second\n", encoding="utf-8")
    assert set(read()) == {"jebm", "jebm.first", "jebm.second"}


def test_how_a_class_has_its_metrics_printed_is_no_code(package):
    text = "class Evaluation:\n    metrics = {{'extent': ({label!r}, 0, 3, '')}}\n    draws = {draws}\n"
    module = package / "second.py"
    module.write_text(text.format(label="extent", draws=1), encoding="utf-8")
    before = read()
    module.write_text(text.format(label="length", draws=1), encoding="utf-8")
    assert read() == before
    module.write_text(text.format(label="length", draws=2), encoding="utf-8")
    assert read() != before


def test_a_variable_called_like_the_metrics_of_a_class_is_code(package):
    module = package / "second.py"
    module.write_text("def measure():\n    metrics = 1\n    return metrics\n", encoding="utf-8")
    before = read()
    module.write_text("def measure():\n    metrics = 2\n    return metrics\n", encoding="utf-8")
    assert read() != before
