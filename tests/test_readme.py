"""What README shows is what the recorded results say."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_main_table_is_the_recorded_one():
    table = (ROOT / "results/digits/tables/main.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) > 3
    assert "\n".join(rows) in README


def test_every_linked_file_of_the_repository_exists():
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", README)
    assert links
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing
