"""import_backbone: the weights of a backbone that was trained elsewhere, in this project's own format."""

from pathlib import Path

from jebm.assets import AssetFiles, resolved
from jebm.models.imported import check_agreement
from jebm.models.nvae.recalibration import recalibrate
from jebm.progress import say
from jebm.registry import IMPORTERS, load
from jebm.stages.common import Run, build_backbone, prepare_compute, publish_weights


def run(job: Run) -> None:
    prepare_compute(job)
    params, data = job.variant.params, job.dataset()
    settings = resolved(params.import_backbone, AssetFiles(job.plan.assets))
    imported = load(IMPORTERS[settings.format])(Path(settings.asset or settings.checkpoint))
    check_agreement(imported, params.backbone, data.image_shape, data.levels, f"params.yaml: {job.plan.name}")
    hierarchy = build_backbone(job, data)
    hierarchy.load_state_dict(imported.weights)
    facts = dict(imported.facts)
    if settings.recalibrate:
        again = settings.recalibrate
        recalibrate(hierarchy, again.passes, again.batch_size, again.temperature, job.stream("recalibrate"))
        facts["recalibrated"] = again.model_dump(mode="json")
    if "licence" in facts:
        say(facts["licence"])
    publish_weights(job, hierarchy.state_dict(), facts)
