"""Policy for steps whose values are not finite: which may be skipped, and when training must stop."""

from jebm.config.training import Optimisation

WINDOW = 100
"""Number of recent steps in which skipped ones are counted."""


class SkipPolicy:
    """Counts skipped steps and decides when to stop.

    A step may be skipped if one of its values is not finite or its gradient norm exceeds ``skip_gradient_norm``. At
    most ``skip_non_finite`` consecutive steps, and at most a fraction ``max_skipped_fraction`` of the last 100 steps,
    are skipped. With ``skip_non_finite: 0`` no step is skipped.
    """

    def __init__(self, settings: Optimisation):
        self.in_a_row_allowed, self.share = settings.skip_non_finite, settings.max_skipped_fraction
        self.total, self.in_a_row, self.recent = 0, 0, []

    @property
    def active(self) -> bool:
        return self.in_a_row_allowed > 0

    def why_not(self, step: int) -> str:
        """Why step number ``step`` can't be skipped; empty if it can."""
        if not self.active:
            return ""
        if self.in_a_row >= self.in_a_row_allowed:
            return f"{self.in_a_row} steps in a row were skipped before it, as many as skip_non_finite allows"
        recent = [past for past in self.recent if past > step - WINDOW]
        if len(recent) + 1 > self.share * WINDOW:
            return (
                f"{len(recent)} of the {WINDOW} steps before it were skipped, "
                f"and max_skipped_fraction allows no more than {self.share:.0%}"
            )
        return ""

    def skip(self, step: int) -> None:
        """Count step number ``step`` as skipped."""
        self.total, self.in_a_row = self.total + 1, self.in_a_row + 1
        self.recent = [past for past in self.recent if past > step - WINDOW] + [step]

    def reset(self) -> None:
        """End a series of consecutive skipped steps, after a step that was not skipped."""
        self.in_a_row = 0

    def state_dict(self) -> dict:
        return {"total": self.total, "in_a_row": self.in_a_row, "recent": self.recent}

    def load_state_dict(self, state: dict) -> None:
        self.total, self.in_a_row, self.recent = state["total"], state["in_a_row"], list(state["recent"])
