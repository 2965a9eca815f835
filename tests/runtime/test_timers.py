"""Timers of more than an hour do not keep a process from ending; shorter ones go off."""

import subprocess
import sys

PROGRAM = """
import threading
from jebm.runtime.timers import cancel_long_timers
cancel_long_timers(0.05)
for _ in range(20):
    threading.Timer(86400, print, ["never"]).start()
threading.Timer(0.3, print, ["soon"]).start()
"""


def test_a_process_ends_without_its_long_timers():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "soon\n"
