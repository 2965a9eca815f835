"""Out of memory, said so that the reader knows what to lower."""

from contextlib import contextmanager

import torch

from jebm.errors import JebmError

OUT_OF_MEMORY_PHRASES = ("not enough memory", "can't allocate memory", "out of memory")
"""What torch writes where it raises no error of its own kind: on the CPU, and in some libraries on a GPU."""


@contextmanager
def explain_out_of_memory(what: str, advice: str):
    """Turns running out of memory inside it into one line with advice; everything else passes.

    Raises:
        JebmError: the memory of the device did not suffice.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not (known or any(sign in str(error) for sign in OUT_OF_MEMORY_PHRASES)):
            raise
        reason = (str(error).splitlines() or ["out of memory"])[0]
        raise JebmError(f"{what} does not fit into memory: {advice}. ({reason})") from error
