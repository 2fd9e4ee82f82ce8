"""One attempt at a time for something that many tasks need at once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedAttempts(Generic[T]):
    """Does each thing once and remembers that it was done; a failure goes to all who wait and is then forgotten.

    So a server that is down costs one timeout, not one for each of sixty-four tasks.
    """

    def __init__(self) -> None:
        self._attempts: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, attempt: Callable[[], Coroutine[Any, Any, T]]) -> T:
        task = self._attempts.get(key)
        if task is None:
            task = self._attempts[key] = asyncio.create_task(attempt())
            task.add_done_callback(lambda done: self._forget_failure(key, done))
        return await asyncio.shield(task)  # one impatient caller does not cancel the others'

    def forget(self, key: Hashable) -> None:
        """Lets the next caller attempt it again."""
        self._attempts.pop(key, None)

    async def cancel(self) -> None:
        tasks = list(self._attempts.values())
        self._attempts.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget_failure(self, key: Hashable, task: asyncio.Task[T]) -> None:
        if (task.cancelled() or task.exception()) and self._attempts.get(key) is task:
            del self._attempts[key]
