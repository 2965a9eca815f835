"""Renders one figure of a study from the results of finished jobs."""

from jebm.config.catalogue import FIGURES
from jebm.config.components import load
from jebm.config.files import current_params_file
from jebm.errors import JebmError
from jebm.pipeline.study import StudyPlan
from jebm.report.frame import load_metrics
from jebm.runtime.progress import log


def render(plan: StudyPlan, name: str) -> None:
    """Write ``results/<study>/figures/<name>.png`` and ``.pdf``."""
    if name not in plan.study.figures:
        raise JebmError(
            f"{current_params_file()}: {plan.name}.figures: no figure '{name}'; it has: {', '.join(plan.study.figures)}"
        )
    from jebm.report.figures.style import save

    path, (target, reads) = plan.results / "figures" / name, FIGURES[name]
    metrics = [load_metrics(plan)] if "metrics" in reads else []
    save(load(target)(plan, plan.study.figures[name], *metrics), path)
    log(f"{path}.png")
