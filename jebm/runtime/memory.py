"""Errors of exhausted memory as a message that names the parameter to lower."""

from contextlib import contextmanager

import torch

from jebm.errors import JebmError

OUT_OF_MEMORY_PHRASES = ("not enough memory", "can't allocate memory", "out of memory")
"""Phrases in plain RuntimeErrors for exhausted memory, which torch raises on the CPU and some libraries on a GPU."""


@contextmanager
def explain_out_of_memory(what: str, advice: str):
    """Turn an out-of-memory error within the context into a :class:`JebmError`; other errors pass unchanged.

    Args:
        what: the subject of the message, such as "2000 chains".
        advice: which parameter to lower.

    Raises:
        JebmError: the memory of the device is exhausted.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not (known or any(sign in str(error) for sign in OUT_OF_MEMORY_PHRASES)):
            raise
        reason = (str(error).splitlines() or ["out of memory"])[0]
        raise JebmError(f"{what} does not fit into memory: {advice}. ({reason})") from error
