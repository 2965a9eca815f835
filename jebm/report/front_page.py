"""The first page of the report: what it is about, the workflow and samples of the first study, and all main tables."""

import base64
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from jebm.io.files import atomic_write
from jebm.pipeline.jobs import all_jobs
from jebm.pipeline.study import StudyPlan
from jebm.report.graph import rule_graph, svg

TEMPLATE = Path("workflow/report/study.rst")
PAGE = Path(".jebm/cache/report.rst")


def write_front_page(plans: Sequence[StudyPlan]) -> Path:
    """Write the page from the results that are there; returns its path. It is reStructuredText with HTML in it.

    Args:
        plans: the studies of the report. The workflow and samples of the first are shown, and all main tables.
    """
    first, parts = plans[0], [TEMPLATE.read_text(encoding="utf-8")]
    caption = (
        f"The workflow of {first.name}. A box is a rule with its main output; an arrow leads to a rule that reads it."
    )
    parts.append(_raw(f"{svg(rule_graph([all_jobs([first]).values()]))}<p>{caption}</p>"))
    picture = first.results / "figures" / "samples.png"
    if picture.exists():
        content = "\n".join(textwrap.wrap(base64.b64encode(picture.read_bytes()).decode(), 4000))
        parts.append(_raw(f'<img alt="samples of {first.name}" width="800" src="data:image/png;base64,{content}">'))
    for plan in plans:
        page = Path(plan.page("main"))
        if page.exists():
            body = re.search(r"<body><h3>(.*?)</h3>(.*)</body>", page.read_text(encoding="utf-8"), re.DOTALL)
            parts.append(_raw(f"<h3>{plan.name}: {body[1]}</h3>{body[2]}"))
    with atomic_write(PAGE) as file:
        file.write("\n\n".join(parts))
    return PAGE


def _raw(text: str) -> str:
    return ".. raw:: html\n\n" + "\n".join(f"   {line}" for line in text.splitlines())
