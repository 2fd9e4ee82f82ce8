"""An asyncio server in a thread of its own, so that a synchronous program can keep it beside its work."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_TURNS_TO_CONNECT = 4


class LoopThread:
    """One event loop in one daemon thread; `run` hands it a coroutine and waits for the answer."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def close(self) -> None:
        """Cancels what still runs and cuts what is connected, then ends the loop and its thread."""
        self.run(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_all(self) -> None:
        """A connection that came in while its server stopped is nobody's to close, and takes some turns of the loop to
        have a transport and a task; left alone, both would be found as garbage in the middle of another test."""
        quiet = 0
        while quiet < _TURNS_TO_CONNECT:
            await asyncio.sleep(0)
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            # What asyncio keeps to know which sockets are its own.
            transports = [one for one in getattr(self._loop, "_transports", {}).values() if not one.is_closing()]
            for one in transports:
                one.abort()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            quiet = 0 if tasks or transports else quiet + 1
