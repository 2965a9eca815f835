"""The number of threads that NumPy and torch compute in. Imports nothing: it has to be set before they are imported."""

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def thread_variables(count: int) -> dict[str, str]:
    """Environment variables for pools of ``count`` threads.

    The pools are sized when the libraries are imported. Rounding depends on their size, so results do too.
    """
    return dict.fromkeys(VARIABLES, str(count))
