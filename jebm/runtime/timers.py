"""Timers that nobody waits for."""

import threading

LONG = 3600.0
"""Seconds; a timer that is to go off later than this does not outlive the work."""


def cancel_long_timers(every: float = 2.0) -> None:
    """From now on, cancel all ``threading.Timer`` of more than an hour, in a thread of the background.

    To keep to a rate of submissions, Snakemake starts a timer after each job, looks through all ready jobs when it goes
    off, and starts another: with hundreds of jobs, a whole core. A rate per day spares that. But a process ends only
    after its timers, and each is a thread.
    """

    def watch() -> None:
        main = threading.main_thread()
        while main.is_alive():
            main.join(every)  # at the latest when the main thread ends: its process waits for the timers then
            for thread in threading.enumerate():
                if isinstance(thread, threading.Timer) and thread.interval > LONG:
                    thread.cancel()

    threading.Thread(target=watch, daemon=True).start()
