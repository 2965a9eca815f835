"""Progress of trainings for snakesee, a monitor for the terminal, which finds this class by its entry point.

The only module that imports snakesee, which is in the extra ``watch``. `jebm status` shows the same without it.
"""

from snakesee.plugins.base import ToolProgress, ToolProgressPlugin

from jebm.pipeline.stages import KINDS
from jebm.report.status import PROGRESS


class TrainingProgress(ToolProgressPlugin):
    """Reads the lines of progress in the logs of jobs."""

    tool_name = "jebm"

    def can_parse(self, rule_name: str, log_content: str) -> bool:
        return rule_name in KINDS

    def parse_progress(self, log_content: str) -> ToolProgress | None:
        """The last line of progress of a job's log; None if there is none yet."""
        found = PROGRESS.findall(log_content)
        if not found:
            return None
        what, done, total, left = found[-1]
        return ToolProgress(int(done), int(total), f"{what}s", estimated_remaining_seconds=float(left))
