"""`snakemake benchmark` measures this machine, whatever tables are recorded from another one."""

import re
import shutil
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "results"
NO_STUDIES = {"default_studies", "core_studies", "runtime", "presets", "assets"}


def test_the_benchmark_measures_every_study_although_tables_are_recorded(workspace):
    recorded = [path.parent for path in RESULTS.glob("*/bench.md")]
    assert recorded, "this test is about recorded tables"
    for folder in recorded:
        shutil.copytree(folder, workspace.folder / "results" / folder.name)
    plan = workspace.run("snakemake", "-n", "--cores", "1", "benchmark").stdout
    assert set(re.findall(r"output: logs/bench/(\w+)\.measured", plan)) == set(workspace.params()) - NO_STUDIES
