"""What README and the docs show is what the recorded results say."""

import re
from pathlib import Path

import pytest

from jebm.report.update_docs import BLOCK, table_rows, update_tables

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def embedded_tables(text):
    """(path of the table, its rows in the document) for every marked block."""
    return [(path, [line for line in body.splitlines() if line.startswith("|")]) for path, body in BLOCK.findall(text)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_embedded_tables_are_the_recorded_ones(document):
    for path, shown in embedded_tables(document.read_text(encoding="utf-8")):
        assert shown == table_rows(ROOT / path), path


def test_main_table_and_findings_are_embedded():
    tables = {document.name: len(embedded_tables(document.read_text(encoding="utf-8"))) for document in DOCUMENTS}
    assert tables["README.md"] >= 1
    assert tables["findings.md"] >= 5


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_linked_file_of_the_repository_exists(document):
    links = re.findall(r"\]\((?!http|#)([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


def test_embedding_replaces_the_rows_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "results/toy/tables/main.md"
    table.parent.mkdir(parents=True)
    table.write_text("A caption.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- A note.\n")
    document = tmp_path / "README.md"
    before = "Text.\n\n<!-- results/toy/tables/main.md -->\n\n| old |\n\n*n = 3*\n\n<!-- end -->\n\n| other |\n"
    document.write_text(before)
    assert update_tables(document) == 1
    text = document.read_text()
    assert text == before.replace("| old |", "| a | b |\n|---|---|\n| 1 | 2 |")
    update_tables(document)
    assert document.read_text() == text
