"""A time limit as a task has one, without Airflow, and a mail server that is slow enough for it."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from demo.servers.smtp import SmtpServer


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


def slow_down(server: SmtpServer, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The server accepts each mail, but slowly."""
    keep = server.handle_DATA

    async def slowly(*mail: Any) -> str:
        await asyncio.sleep(seconds)
        return await keep(*mail)

    monkeypatch.setattr(server, "handle_DATA", slowly, raising=False)
