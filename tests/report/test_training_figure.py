"""The training figure shows only stage 2 for a backbone that was trained elsewhere."""

from toy import params

from jebm.config.read import parse_params
from jebm.pipeline.study import make_plan
from jebm.report.figures import training

IMPORTED = {
    "toy/backbone": {
        "name": "nvae", "layers_per_scale": [1, 1], "latent_channels": 1, "encoder_channels": 4, "decoder_channels": 4,
    },
    "toy/train_backbone": None,
    "toy/import_backbone": {"format": "jebm", "checkpoint": "weights.safetensors"},
}  # fmt: skip


def test_imported_backbones_have_no_panels_of_stage_1(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = make_plan(parse_params(params(IMPORTED)))["toy"]
    for seed in plan.seeds:
        folder = plan.variants["joint"].prior.run_folder(seed)
        folder.mkdir(parents=True)
        (folder / "history.csv").write_text("step,energy_gap,acceptance\n1,0.5,0.9\n2,0.25,0.8\n")
    gap, acceptance = training.draw(plan, ["joint"]).axes
    assert [line.get_ydata().tolist() for line in acceptance.lines] == [[0.9, 0.8]] * len(plan.seeds)
    assert gap.get_title() == "stage 2: energy gap of a batch"
