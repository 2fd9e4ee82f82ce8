"""An asyncio server in a thread of its own, so that a synchronous program can keep it beside its work."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_TURNS_TO_CONNECT = 4


async def stop_accepting(server: asyncio.Server) -> None:
    """Closes a server once whoever is already let in is known to its protocol, which can then end all connections.

    asyncio needs some turns of the loop from a client's connection to the protocol, and forgets, unclosed, what is on
    its way while the server closes.
    """
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    for _ in range(_TURNS_TO_CONNECT):
        await asyncio.sleep(0)
    server.close()


class LoopThread:
    """One event loop in one daemon thread; `run` hands it a coroutine and waits for the answer."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def close(self) -> None:
        """Cancels what still runs, then ends the loop and its thread."""
        self.run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports that were closed last close their sockets now
