"""The number of threads of NumPy and torch. Imports nothing, because it must be set before these are imported."""

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def thread_variables(count: int) -> dict[str, str]:
    """Environment variables for thread pools of ``count`` threads.

    The libraries read them when they are imported. Rounding, and so every result, depends on the number of threads.
    """
    return dict.fromkeys(VARIABLES, str(count))
