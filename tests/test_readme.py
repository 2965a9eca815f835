"""What README and the docs show is what the recorded results say, and can be read: links, terms, length."""

import re
from pathlib import Path

import pytest
from workspace import raw_params

from jebm.cli.inspect import flowchart
from jebm.config.read import parse_params, read_params
from jebm.metrics.catalogue import METRICS
from jebm.pipeline.stages import KINDS
from jebm.pipeline.study import make_plan
from jebm.report.update_docs import BLOCK, CHART, table_rows, update_tables

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def embedded_tables(text):
    """(path of the table, its rows in the document) for every marked block."""
    return [(path, [line for line in body.splitlines() if line.startswith("|")]) for path, body in BLOCK.findall(text)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_embedded_tables_are_the_recorded_ones(document):
    for path, shown in embedded_tables(document.read_text(encoding="utf-8")):
        assert shown == table_rows(ROOT / path), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_flowcharts_are_those_of_the_workflow(document, monkeypatch):
    monkeypatch.chdir(ROOT)
    for study, body in CHART.findall(document.read_text(encoding="utf-8")):
        assert body.strip() == f"```mermaid\n{flowchart(study)}\n```", "jebm update-docs writes it"


def test_guide_and_architecture_draw_the_workflow():
    found = {document.name: CHART.findall(document.read_text(encoding="utf-8")) for document in DOCUMENTS}
    assert [study for study, _ in found["guide.md"] + found["architecture.md"]] == ["digits", ""]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("results/*/tables/*.md")), ids=lambda path: f"{path.parts[-3]}/{path.stem}"
)
def test_recorded_tables_have_at_most_eight_columns_of_values(path):
    header = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|"))
    assert header.count("|") - 2 <= 8


def test_main_table_and_findings_are_embedded():
    tables = {document.name: len(embedded_tables(document.read_text(encoding="utf-8"))) for document in DOCUMENTS}
    assert tables["README.md"] >= 1
    assert tables["findings.md"] >= 5


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_linked_file_and_section_of_the_repository_exists(document):
    links = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", document.read_text(encoding="utf-8"))
    missing = []
    for file, section in links:
        target = document.parent / file if file else document
        if not target.exists() or (section and section not in sections(target)):
            missing.append(f"{file}#{section}" if section else file)
    assert not missing


def sections(document):
    """The names by which the headings of a Markdown file are linked, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(document):
    """The text of a document without code blocks, tables and comments, and with the words of its links alone."""
    text = document.read_text(encoding="utf-8")
    return re.sub(r"```.*?```|<!--.*?-->|^\|.*?$", "\n\n", text, flags=re.DOTALL | re.MULTILINE)


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md", "docs/new-data.md", "docs/architecture.md"])
def test_sentences_of_what_one_reads_first_are_short(name):
    parts = re.split(r"\n\n|\n[-#] |[.!?][*\])]*\s", re.sub(r"\]\([^)]*\)", "]", prose(ROOT / name)))
    assert not [" ".join(part.split()) for part in parts if len(part.split()) > 35]


LINK = re.compile(r"\[[^\]]*\]\(([^)]*)\)")
TERMS = (
    "energy-based", "generator", "inference network", "whitened", "Fréchet distance", "kernel distance", "floor",
    "importance-weighted bound", "nats", "study", "KL", "Langevin", "proposal", "R-hat", "headline", "hierarchy",
    "ELBO", "protocol",
)  # fmt: skip
"""Words that a newcomer may not know, where README or guide has them."""


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md"])
@pytest.mark.parametrize("term", TERMS)
def test_a_term_is_linked_to_the_glossary_where_it_is_used_first(name, term):
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|<!--.*?-->|`[^`]*`|!\[.*?\]|^#.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    if first := re.search(rf"(?<!-)\b{term}\b", text):
        links = [link for link in LINK.finditer(text) if link.start() < first.start() < link.end()]
        assert links, text[first.start() - 60 : first.end() + 60]
        assert "glossary.md" in links[0][1]


def test_numbers_of_the_findings_in_the_readme_are_those_of_the_tables_that_they_link():
    found = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What was found")[2].partition("\n## ")[0]
    for bullet in re.split(r"\n- ", found)[1:]:
        tables = [(ROOT / path).read_text(encoding="utf-8") for path in re.findall(r"\((results/\S+\.md)\)", bullet)]
        means = [float(mean) for table in tables for mean in re.findall(r"(-?\d+\.\d+) ±", table)]
        for number in re.findall(r"(?<![\w.])\d+\.\d+", bullet):
            digits = len(number.partition(".")[2])
            assert float(number) in {round(mean, digits) for mean in means}, bullet


def test_the_example_of_a_change_draws_the_named_samples_again_and_trains_nothing():
    key = "digits.presets.short-run-training.draw_samples.sampler.steps"
    assert all(key in (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/guide.md"))
    changed = raw_params(ROOT)
    block = changed
    for part in key.split(".")[:-1]:
        block = block[part]
    assert block["steps"] == 20
    block["steps"] = 40
    before, after = (make_plan(params)["digits"].variants for params in (read_params(), parse_params(changed)))
    kinds = {(name, kind) for name in before for kind in KINDS if before[name].stages(kind) != after[name].stages(kind)}
    assert kinds == {("short-run", "draw_samples"), ("short-run", "evaluate_samples"), ("short-run", "resample_layers")}


@pytest.mark.parametrize("name", METRICS)
def test_glossary_has_every_metric_by_its_label_and_name(name):
    label = METRICS[name].label.split(" ×10")[0]
    rows = [line.split(" | ") for line in (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines()]
    assert [row for row in rows if len(row) == 3 and label in row[0] and f"`{name}`" in row[1]]


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
