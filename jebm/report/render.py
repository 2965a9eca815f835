"""Renders one figure of a study from what the runs left behind; nothing is trained or sampled here."""

from jebm.config.catalogue import FIGURES
from jebm.config.components import load
from jebm.errors import JebmError
from jebm.pipeline.study import StudyPlan
from jebm.runtime.progress import say


def render(plan: StudyPlan, name: str) -> None:
    """Write ``results/<study>/figures/<name>.png`` and ``.pdf``."""
    if name not in plan.study.figures:
        raise JebmError(
            f"params.yaml: {plan.name}.figures: no figure '{name}'; it has: {', '.join(plan.study.figures)}"
        )
    from jebm.report.figures.style import save

    path = plan.results / "figures" / name
    save(load(FIGURES[name][0])(plan, plan.study.figures[name]), path)
    say(f"{path}.png")
