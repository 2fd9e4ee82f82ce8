"""A time limit as a task has one, without Airflow."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class LimitReached(BaseException):
    """As a task's own time limit."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise LimitReached

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
