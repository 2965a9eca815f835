"""Errors that a user can cause. The command line shows the message without a traceback and exits with the status."""


class JebmError(Exception):
    """The message says what is wrong, where, and what to do about it."""

    exit_code = 1


class ParamsError(JebmError):
    """A value in a parameter file is unknown, of the wrong type, out of range, or contradicts another value."""

    exit_code = 2


class SettingError(JebmError):
    """A parameter does not fit the data, the machine or another component.

    The message starts with the key of the parameter. The library does not know which file the parameter was read from;
    the command line puts the name of the file in front.
    """


class DivergedError(JebmError):
    """A loss, an energy or a gradient is no longer finite."""

    exit_code = 3


class InterruptedRunError(JebmError):
    """A signal stopped the run after its state was saved; the same command resumes from that state."""

    exit_code = 75


class LostRankError(JebmError):
    """The connection to another process of the same job was lost; the error of that process is the one to show."""

    exit_code = 70
