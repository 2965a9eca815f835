"""The errors a user can cause: one clear message, no traceback, a non-zero exit status."""


class JebmError(Exception):
    """A message for the user: what is wrong, where, and what to do."""

    exit_code = 1


class ParamsError(JebmError):
    """Something in params.yaml is unknown, of the wrong type, out of range or impossible together."""

    exit_code = 2


class DivergedError(JebmError):
    """A loss, energy or gradient stopped being finite."""

    exit_code = 3


class InterruptedRunError(JebmError):
    """A signal asked the run to stop; its state is saved and the same command goes on from there."""

    exit_code = 75


class LostRankError(JebmError):
    """Another process of the same job is gone: what happened to that one is the error to show."""

    exit_code = 70
