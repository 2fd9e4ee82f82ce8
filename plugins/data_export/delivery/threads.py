"""Blocking calls inside an event loop, so that a cancelled operation is over when it says so."""

import asyncio
import io
import os
import signal
import stat
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future
from contextlib import aclosing, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from data_export.content import CHUNK_BYTES, Content, Digests, Hasher
from data_export.errors import ObjectRefused, VerificationFailed

T = TypeVar("T")
#: Bytes that are hashed inside the event loop: a thread costs about as much as half a millisecond of it.
_HASHED_AT_ONCE = 256 << 10
#: Seconds that a coroutine has to tidy up after its time limit: less than what alerts then have in all.
_TO_TIDY_UP = 5.0


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, chunk: bytes, /) -> object: ...


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`; a time limit, which is an alarm whose handler raises, ends it whatever the coroutine is doing.

    In the main thread's own event loop the handler would raise in the middle of anything: in a callback, whose errors
    asyncio only logs, or in code that holds a lock, which nobody then gives back. So this thread only waits. What does
    not end some seconds after it was cancelled is left alone, such as a library's call in a thread, or a computation
    between two awaits; a task's process ends soon anyway.
    """
    handler = signal.getsignal(signal.SIGALRM)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        return asyncio.run(main)  # no alarm can come
    woken = SimpleQueue[Callable[[], object]]()  # of all that wakes a thread, a handler may use this alone
    signal.signal(signal.SIGALRM, lambda *alarm: woken.put(partial(handler, *alarm)))
    try:
        return _run_in_thread(main, woken)
    finally:
        signal.signal(signal.SIGALRM, handler)
        while not woken.empty():  # an alarm may have come as it ended
            woken.get()()


def _run_in_thread(main: Coroutine[Any, Any, T], woken: SimpleQueue[Callable[[], object]]) -> T:
    """Waits for its end, or for what is put into `woken` before: that is called, and if it raises, cancels `main`."""
    begun, outcome = SimpleQueue[Callable[[], object]](), Future[T]()

    async def begin() -> T:
        task = asyncio.ensure_future(main)
        begun.put(partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel))
        return await task

    def work() -> None:
        try:
            outcome.set_result(asyncio.run(begin()))
        except BaseException as error:
            outcome.set_exception(error)
        woken.put(outcome.done)

    thread = threading.Thread(target=copy_context().run, args=(work,), name="event-loop", daemon=True)
    try:
        thread.start()
        woken.get()()
    except BaseException as limit:  # or Ctrl-C
        stood = None
        with suppress(Empty, RuntimeError, TimeoutError):  # it takes longer, or its event loop has just ended
            begun.get(timeout=_TO_TIDY_UP)()
            stood = outcome.exception(_TO_TIDY_UP)
        raise limit from stood  # the cause shows where the coroutine was
    return outcome.result()


class Stopped(Exception):
    """Ends a thread whose result nobody awaits any more; never seen outside `run_blocking`."""


async def run_blocking(function: Callable[[threading.Event], T], executor: Executor | None = None) -> T:
    """Runs `function(stop)` in a thread; when cancelled, sets `stop` and waits until the function has ended.

    Without the wait a cancelled write would go on behind the caller's back, and its object might appear later.
    """
    stop = threading.Event()
    running = asyncio.get_running_loop().run_in_executor(executor, copy_context().run, function, stop)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        while not running.done():
            with suppress(asyncio.CancelledError):  # another one: the function has still to end
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # else asyncio logs that nobody asked for it
        raise


def waited_for_by_none(ask: Callable[[], T]) -> "asyncio.Future[T]":
    """What `ask` returns, from a thread that neither a cancellation nor the event loop's end waits for.

    For what does no harm when it comes after its time, such as a token.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio logs that nobody asked

    def run() -> None:
        try:
            done = partial(future.set_result, ask())
        except BaseException as error:  # or who waits would do so for ever
            done = partial(future.set_exception, error)
        with suppress(RuntimeError):  # the event loop has ended
            loop.call_soon_threadsafe(lambda: future.done() or done())

    threading.Thread(target=run, daemon=True).start()
    return future


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


def opened(content: Content, stop: threading.Event) -> BinaryIO:
    """The content as a file, whose reads raise `Stopped` once the caller was cancelled.

    Raises:
        VerificationFailed: the local file has another size than was announced.
    """
    if isinstance(content.source, bytes):
        return io.BytesIO(content.source)
    size = content.source.stat().st_size
    if size != content.size:
        raise VerificationFailed(f"{content.source} has {size} bytes where {content.size} were announced")
    return cast("BinaryIO", _StoppableFile(content.source, stop, content.sent))


async def at_most(chunks: AsyncIterator[bytes], size: int, where: str) -> AsyncIterator[bytes]:
    """The chunks, never more than announced: an answer without an end would fill memory or disk.

    Raises:
        VerificationFailed: there are more.
    """
    left = size
    async with aclosing(cast("Any", chunks)):
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise VerificationFailed(f"{where} is longer than the {size} bytes that the store says")
            yield chunk


async def read_digests(
    chunks: AsyncIterator[bytes],
    *,
    most: int,
    md5: bool = False,
    sha256: bool = True,
    into: Sink | None = None,
) -> Digests:
    """Digests of what is read; of much, a part is hashed in a thread while the next one comes, so two parts are held.

    Args:
        most: bytes after which no more are read: what has more is another object, and may have no end.
        into: where to keep the bytes.
    """
    hasher, parts, size = Hasher(md5=md5, sha256=sha256), list[bytes](), 0
    hashing: asyncio.Future[None] | None = None
    total = 0
    async with aclosing(cast("Any", chunks)):  # what is cancelled here must not go on reading
        async for chunk in chunks:
            parts.append(chunk)
            if into is not None:
                into.write(chunk)
            size, total = size + len(chunk), total + len(chunk)
            if total > most:
                break
            if size > _HASHED_AT_ONCE:
                if hashing is not None:
                    await hashing
                hashing = asyncio.get_running_loop().run_in_executor(None, _hash, hasher, parts)
                parts, size = [], 0
    if hashing is not None:
        await hashing
    _hash(hasher, parts)
    return hasher.digests()


def _hash(hasher: Hasher, parts: list[bytes]) -> None:
    while parts:  # a thread that waits for its processor would else hold what it has hashed
        hasher.update(parts.pop(0))


class _StoppableFile(io.FileIO):
    def __init__(self, path: Path, stop: threading.Event, sent: Callable[[int], None] | None) -> None:
        super().__init__(path)
        self._stop = stop
        self._sent = sent

    def read(self, size: int | None = -1, /) -> bytes:
        go_on(self._stop)
        if self._sent is not None:
            self._sent(self.tell())  # what was read before was sent before more is asked for
        return super().read(-1 if size is None else size)


def at_hand(path: Path | str) -> bytes | None:
    """All of a small file that the system holds in memory; None where it does not, or does not say.

    Such a read takes a sixth of what it costs to have a thread do it, and never waits for a disk.

    Raises:
        ObjectRefused: it is a pipe or a device, which may be waited for for ever, or have no end.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ObjectRefused(f"{path} is a folder, a pipe or a device where a file must be: remove it")
        buffer = bytearray(min(status.st_size, CHUNK_BYTES))
        if len(buffer) < CHUNK_BYTES and os.preadv(descriptor, [buffer], 0, os.RWF_NOWAIT) == len(buffer):
            return bytes(buffer)
    except OSError:  # not in memory, or a file system that does not know the question
        pass
    finally:
        os.close(descriptor)
    return None
