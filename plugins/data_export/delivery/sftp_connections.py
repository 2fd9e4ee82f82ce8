"""Several connections to one SFTP server, as few as the work needs."""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from data_export.delivery.sftp_session import SftpSession
from data_export.delivery.shared import SharedAttempts
from data_export.errors import DataExportError, HostKeyMismatch

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Line:
    """A place for one connection, and how many operations go over it."""

    opening: SharedAttempts[SftpSession] = field(default_factory=SharedAttempts)
    session: SftpSession | None = None
    busy: int = 0

    @property
    def alive(self) -> bool:
        return self.session is not None and self.session.alive


class SftpConnections:
    """At most `limit` connections; another is opened when `share` operations go over each of those that there are.

    One connection carries many operations, but a server works on the requests of each one after the other, and many
    servers and networks give each connection so much bandwidth and no more. Where the server allows fewer than
    `limit`, the work goes on over those.

    Args:
        open_session: makes a connection that is logged in.
    """

    def __init__(self, open_session: Callable[[], Coroutine[Any, Any, SftpSession]], limit: int, share: int) -> None:
        self._open_session = open_session
        self._share = share
        self._lines = [_Line() for _ in range(limit)]

    async def open(self) -> None:
        """Opens the first connection; see `SftpSession.open` for what it raises."""
        await self._connected(self._lines[0])

    async def close(self) -> None:
        for line in self._lines:
            await line.opening.cancel()
            if line.session is not None:
                await line.session.close()
                line.session = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[SftpSession]:
        """A session that is alive; a connection that has broken is opened anew."""
        line = self._seat()
        try:
            while True:
                try:
                    session = await self._connected(line)
                    break
                except DataExportError as error:
                    if not self._can_do_without(line, error):
                        raise
                # The next seat may be on a line that is being opened and is refused as well: hence the loop, which
                # ends because each refused line is out of use.
                line.busy -= 1
                line = self._seat()
            yield session
        finally:
            line.busy -= 1

    def _seat(self) -> _Line:
        """The line for one more operation, which is counted at once: others come while it connects."""
        line = next((line for line in self._lines if line.busy < self._share), None)
        line = line or min(self._lines, key=lambda line: line.busy)
        line.busy += 1
        return line

    def _can_do_without(self, line: _Line, error: DataExportError) -> bool:
        """Takes the line out of use where another one works: the server allows no more of them."""
        if isinstance(error, HostKeyMismatch) or not any(other.alive for other in self._lines):
            return False
        if line in self._lines:
            self._lines.remove(line)
            _log.warning("the server takes no further connection (%s): going on over %d", error, len(self._lines))
        return True

    async def _connected(self, line: _Line) -> SftpSession:
        if line.session is not None and not line.session.alive:
            line.session.abort()
            line.session = None
            line.opening.forget(line)
        return await line.opening.get(line, lambda: self._open(line))

    async def _open(self, line: _Line) -> SftpSession:
        line.session = await self._open_session()
        return line.session
