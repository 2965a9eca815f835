"""Log lines, and progress with the elapsed and the remaining time."""

import sys
import time


class Progress:
    """Logs the progress of a job, at most once per ``every`` seconds, and always the last item."""

    def __init__(self, title: str, every: float = 5.0):
        self.title, self.every = title, every
        self.start = self.last = time.monotonic()
        self.first: int | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = max(done - 1, 0)
        if now - self.last < self.every and done < total:
            return
        self.last = now
        elapsed = now - self.start
        left = elapsed * (total - done) / max(done - self.first, 1)
        log(f"{self.title}: {what} {done}/{total}, {elapsed:.0f} s elapsed, about {left:.0f} s left")


def log(message: str) -> None:
    """Write one line to standard error, which Snakemake redirects to the log of the job."""
    print(message, file=sys.stderr, flush=True)
