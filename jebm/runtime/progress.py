"""Step lines for the log: what is being done, how far it is, how long it still takes."""

import sys
import time


class Progress:
    """Prints at most one line every ``every`` seconds, and the last one."""

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
    """A line for the user or the log."""
    print(message, file=sys.stderr, flush=True)
