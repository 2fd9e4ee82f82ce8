"""Blocking calls inside an event loop, so that a cancelled operation is over when it says so."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

from data_export.content import CHUNK_BYTES, Content

T = TypeVar("T")


class Stopped(Exception):
    """Ends a thread whose result nobody awaits any more; never seen outside `run_blocking`."""


async def run_blocking(function: Callable[[threading.Event], T], executor: Executor | None = None) -> T:
    """Runs `function(stop)` in a thread; when cancelled, sets `stop` and waits until the function has ended.

    Without the wait a cancelled write would go on behind the caller's back, and its object might appear later.
    """
    stop = threading.Event()
    running = asyncio.get_running_loop().run_in_executor(executor, function, stop)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        raise


def go_on(stop: threading.Event) -> None:
    """
    Raises:
        Stopped: the caller was cancelled.
    """
    if stop.is_set():
        raise Stopped


def chunks_until(stop: threading.Event, content: Content, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The content's chunks, broken off by `Stopped` as soon as the caller was cancelled."""
    for chunk in content.chunks(size):
        go_on(stop)
        yield chunk
    go_on(stop)
