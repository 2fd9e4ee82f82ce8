"""Ends child processes however their parent ends, a kill included.

Run as `python -m demo.guard`: it reads session leaders' process ids from its standard input, one a line, and when it
reads that all is over, or the input closes, which the kernel does for a parent of any fate, it ends every process of
those sessions. Sessions, not process
groups: Airflow puts each running task into a group of its own.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Self

import psutil

_OVER = "over\n"


class Guard:
    """Context manager; every session handed to `watch` is over when the `with` block is.

    `grace` seconds pass between asking and killing.
    """

    def __init__(self, grace: float = 5.0) -> None:
        self._grace = grace

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "demo.guard", str(self._grace)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C must not reach it
            cwd=Path(__file__).parents[1],
            text=True,
        )
        return self

    def watch(self, session: int) -> None:
        """`session` is the process id of a child started with `start_new_session=True`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{session}\n")
        self._process.stdin.flush()

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate(_OVER)  # in words: a fork of this process may keep the pipe open


def members(sessions: Iterable[int]) -> list[int]:
    """Process ids of all that runs in the sessions, zombies left out."""
    wanted, found = set(sessions), []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError, PermissionError):
            if os.getsid(process.pid) in wanted and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def end_sessions(sessions: Iterable[int], grace: float) -> None:
    """Asks, waits at most `grace` seconds, then kills."""
    sessions = list(sessions)
    _signal(members(sessions), signal.SIGTERM)
    until = time.monotonic() + grace
    while members(sessions) and time.monotonic() < until:
        time.sleep(0.05)
    while left := members(sessions):
        _signal(left, signal.SIGKILL)
        time.sleep(0.05)


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


if __name__ == "__main__":
    end_sessions([int(line) for line in takewhile(_OVER.__ne__, sys.stdin)], float(sys.argv[1]))
