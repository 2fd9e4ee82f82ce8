"""How the cloud stores try again: how long before a server counts as unavailable, and what a lost answer may mean."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_export.delivery.base import StoredObject
from data_export.errors import ObjectExists, TargetNotFound, TransientError

if TYPE_CHECKING:
    from tenacity import AsyncRetrying

# Slower than this a server counts as stalled: 100 kB/s for a request's body.
_SLOWEST_BYTES_PER_SECOND = 100_000


class NoSuchObject(TargetNotFound):
    """The bucket is there, the object is not."""


class PreconditionFailed(ObjectExists):
    """A write asked for another state of the object than there is."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds and tries; callers above (a copy of many images, Airflow's task retries) have their own on top."""

    tries: int = 4
    first_pause: float = 0.5
    longest_pause: float = 8
    connect: float = 15
    #: Longest silence of a server that has a request.
    answer: float = 60

    def retrying(self) -> "AsyncRetrying":
        """Tries again after any `TransientError`, pausing up to twice as long each time, at random (full jitter).

        Used as `async for attempt in patience.retrying(): with attempt: ...`; the last error is raised as it is.
        """
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        return AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self.tries),
            wait=wait_random_exponential(multiplier=self.first_pause, max=self.longest_pause),
            reraise=True,
        )

    def whole(self, body_bytes: int) -> float:
        """Longest duration of a request with a body of that size."""
        return self.answer + body_bytes / _SLOWEST_BYTES_PER_SECOND


async def persist(
    patience: Patience, look: Callable[[], Awaitable[StoredObject | None]], write: Callable[[], Awaitable[StoredObject]]
) -> StoredObject:
    """Tries `write` until it succeeds, and looks before each further try.

    A failed try may have been a success whose answer was lost: what it wrote must be recognised, neither sent again nor
    taken for another's.

    Args:
        look: the object if it holds just what `write` would store.
    """
    tried = False
    async for attempt in patience.retrying():
        with attempt:
            if tried and (found := await look()):
                return found
            tried = True
            return await write()
    raise AssertionError("unreachable: the last attempt returns or raises")
