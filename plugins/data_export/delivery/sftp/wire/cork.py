"""Fewer system calls for a connection of asyncssh, which writes each packet by itself."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import asyncssh

# So much is sent at once, so that the server works while we still encrypt.
_FULL_BYTES = 128 << 10


class Corked(asyncio.Protocol):
    """Stands between the network and a connection of asyncssh; what that writes in one turn of the loop goes at once.

    For asyncssh it is the transport, of which it calls the methods that are here.
    """

    def __init__(self, connection: asyncio.Protocol) -> None:
        self.connection = connection
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.connection.connection_made(cast("asyncio.Transport", self))

    def data_received(self, data: bytes) -> None:
        self.connection.data_received(data)

    def eof_received(self) -> bool | None:
        return self.connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.connection_lost(exc)

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= _FULL_BYTES:
            self._flush()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    def close(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(held))


class Network:
    """Opens TCP connections that are `Corked`: asyncssh takes it for a tunnel."""

    async def create_connection(
        self, connection_factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[None, asyncio.Protocol]:
        loop = asyncio.get_running_loop()
        _, corked = await loop.create_connection(lambda: Corked(connection_factory()), host, port)
        return None, corked.connection


_IGNORE = 2  # SSH_MSG_IGNORE


def leave_out_ignored(connection: "asyncssh.SSHClientConnection") -> None:
    """Halves the packets: asyncssh sends one to be ignored before each of ours.

    They protect ciphers in CBC mode, whose next packet could be guessed from the last, and no others (RFC 4251, 9.3.1).
    """
    if "cbc" in str(connection.get_extra_info("send_cipher", "cbc")):
        return
    send = connection.send_packet

    def send_packet(kind: int, *args: bytes, **options: Any) -> None:
        if kind != _IGNORE:
            send(kind, *args, **options)

    connection.send_packet = send_packet  # type: ignore[method-assign,assignment] # it has no setting for it
