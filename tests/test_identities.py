"""Identities of stages do not move: folders, random streams and recorded numbers hang on them.

``python tests/test_identities.py`` writes the golden file anew, for a change that is meant to move them.
"""

import json
from pathlib import Path

from jebm.config.read import read_params
from jebm.pipeline.study import make_plan

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden" / "identities.json"


def identities() -> dict[str, dict[str, dict[str, str]]]:
    """Study → variant → stage → identity, for all studies of the repository's parameters."""
    found: dict = {}
    for name, plan in make_plan(read_params(ROOT / "params.yaml")).items():
        for key, variant in plan.variants.items():
            own = (
                "dataset", "features", "reference", "pretrained", "backbone", "prior", "samples", "layers", "floor",
                "sample_metrics", "density_metrics",
            )  # fmt: skip
            stages = {part: stage.id for part in own if (stage := getattr(variant, part)) is not None}
            labelled = {f"evaluations.{label}": stage.id for label, stage in variant.evaluations.items()}
            found.setdefault(name, {})[key] = stages | labelled
    return found


def as_text(found: dict) -> str:
    """A line per variant, so that a diff shows which ones moved."""
    studies = []
    for name, variants in found.items():
        lines = [f"  {json.dumps(key)}: {json.dumps(stages)}" for key, stages in variants.items()]
        studies.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(studies) + "\n}\n"


def test_identities_are_the_golden_ones():
    assert identities() == json.loads(GOLDEN.read_text(encoding="utf-8"))


if __name__ == "__main__":
    GOLDEN.write_text(as_text(identities()), encoding="utf-8")
