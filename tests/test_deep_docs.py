"""The block of parameters that docs/deep.md shows is one that the project takes."""

import re
from pathlib import Path

import pytest
import yaml
from toy import params

from jebm.config.read import parse_params
from jebm.training.schedules import kl_weights, learning_rate

DOCUMENT = Path(__file__).parents[1] / "docs/deep.md"


def test_block_is_valid_and_means_what_the_text_says():
    block = yaml.safe_load(re.search(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)[1])
    changes = {f"toy/{key}": value for key, value in block.items()}
    changes |= {"toy/backbone": {"name": "nvae", "layers_per_scale": [30]}, "toy/variants": {"v": {}}}
    study = parse_params(params(changes | {"toy/tables": {}, "toy/figures": {"whiteness": ["v"]}})).studies["toy"]
    stage_1 = study.variants["v"].train_backbone
    assert learning_rate(stage_1.warmup_steps, stage_1) == 1e-2
    assert learning_rate(stage_1.steps, stage_1) == pytest.approx(1e-4)
    assert float(kl_weights(0, stage_1.steps, stage_1.kl_warmup, stage_1.min_kl_weight)) == pytest.approx(1e-4)
    assert study.variants["v"].draw_samples.sampler.step_size == "adapted"
