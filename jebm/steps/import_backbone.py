"""import_backbone: convert the weights of a backbone that was trained elsewhere to this project's format."""

from pathlib import Path

from jebm.config.assets import with_asset_paths
from jebm.config.catalogue import IMPORTERS
from jebm.config.components import load
from jebm.config.files import current_params_file
from jebm.errors import SettingError
from jebm.models.checkpoints.base import check_agreement
from jebm.pipeline.assets import VerifiedAssets
from jebm.runtime.progress import log
from jebm.steps.models import build_backbone
from jebm.steps.recalibration import recalibrate_if_asked
from jebm.steps.run import StageRun, prepare_compute
from jebm.steps.save import save_weights


def run(job: StageRun) -> None:
    prepare_compute(job)
    params, data = job.variant.params, job.dataset()
    settings = with_asset_paths(params.import_backbone, VerifiedAssets(job.plan.assets))
    path = Path(settings.asset or settings.checkpoint)
    if not path.exists():
        raise SettingError(
            f"{job.plan.name}.import_backbone.checkpoint: there is no file '{path}'; docs/deep.md says "
            "where published checkpoints are and under which licence, and `train_backbone` trains one instead"
        )
    imported = load(IMPORTERS[settings.format])(path)
    check_agreement(
        imported, params.backbone, data.image_shape, data.levels, f"{current_params_file()}: {job.plan.name}"
    )
    hierarchy = build_backbone(job, data)
    hierarchy.load_state_dict(imported.weights)
    facts = dict(imported.facts)
    facts |= recalibrate_if_asked(settings.recalibrate, hierarchy, job.rng("recalibrate"))
    if "licence" in facts:
        log(facts["licence"])
    save_weights(job, hierarchy.state_dict(), facts)
