"""Fewer system calls and copies for a connection of asyncssh, which writes each packet by itself."""

import asyncio
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable
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
        self._held: list[bytes | memoryview] = []
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

    def write(self, data: bytes | memoryview) -> None:
        if len(data) >= _FULL_BYTES and not self._held and self._transport is not None:
            if not self._transport.is_closing():
                self._transport.write(data)  # without a copy of so much
            return
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


_DATA = 94  # SSH_MSG_CHANNEL_DATA
_GCM_BLOCK, _GCM_TAG = 16, 16
_AROUND_BYTES = 64  # more than a packet has before and after its data
_HEAD = struct.Struct(">BBII")  # bytes of padding, kind of packet, channel, bytes of data


class Outlet:
    """Puts what a session writes into packets of its channel: by itself where the cipher is AES-GCM, else by asyncssh.

    asyncssh copies each packet ten times, which costs more than to encrypt it. Windows, keys and packet numbers stay
    its own, and so does each packet while keys are exchanged; where it keeps them under other names, it sends them all.
    """

    def __init__(self, connection: "asyncssh.SSHClientConnection", channel: "asyncssh.SSHClientChannel[bytes]") -> None:
        self._connection, self._channel = cast("Any", connection), cast("Any", channel)
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self._woken = False
        self._loop = asyncio.get_running_loop()
        self._sealing: tuple[Any, Callable[..., int]] | None = None
        #: Bytes that asyncssh did not have to send.
        self.sent = 0
        flush = self._channel._flush_send_buf  # called when the server lets us send more

        def flush_and_wake() -> None:
            flush()
            if self._queued and not self._woken:  # a little later: it often lets us do so several times at once
                self._woken = True
                self._loop.call_soon(self._pump)

        self._channel._flush_send_buf = flush_and_wake

    def write(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            self._queue.append(memoryview(part))
            self._queued += len(part)
        self._pump()

    def _pump(self) -> None:
        """Sends as much as the server lets us."""
        self._woken = False
        while self._queued and self._channel._send_window and not self._channel.is_closing():
            if seal := self._seal():
                self._send(seal)
            else:
                self._channel.write(b"".join(self._take(min(self._channel._send_window, self._queued))))

    def _seal(self) -> Callable[..., int] | None:
        """What encrypts the next packet; None where asyncssh must send it."""
        connection = self._connection
        try:
            if connection._compressor or not connection._kex_complete or self._channel._send_buf:
                return None
            if connection._rekey_bytes_sent >= connection._rekey_bytes:
                return None
            cipher = connection._send_encryption._cipher
            if self._sealing is None or self._sealing[0] is not cipher:
                from asyncssh.crypto.cipher import GCMCipher
                from cryptography.hazmat.primitives.ciphers.aead import AESGCM

                if type(cipher) is not GCMCipher:
                    return None
                self._sealing = cipher, AESGCM(cipher._key).encrypt_into
        except AttributeError:
            return None
        return self._sealing[1]

    def _send(self, seal: Callable[..., int]) -> None:
        """Sends at most 128 KiB, of what there is and the server takes, in as many packets as it wants."""
        connection, channel, cipher = self._connection, self._channel, self._connection._send_encryption._cipher
        longest, left, at = channel._send_pktsize, min(channel._send_window, self._queued, _FULL_BYTES), 0
        room = memoryview(bytearray(left + (left // longest + 1) * _AROUND_BYTES))
        while size := min(left, longest):
            padding = _GCM_BLOCK - (_HEAD.size + size) % _GCM_BLOCK
            padding += _GCM_BLOCK if padding < 4 else 0
            head = _HEAD.pack(padding, _DATA, channel._send_chan, size)
            plain = b"".join((head, *self._take(size), os.urandom(padding)))
            length = len(plain).to_bytes(4, "big")
            end = at + 4 + len(plain) + _GCM_TAG
            room[at : at + 4] = length
            seal(cipher._iv, plain, length, room[at + 4 : end])
            cipher._update_iv()
            at, left = end, left - size
            channel._send_window -= size
            connection._send_seq = (connection._send_seq + 1) & 0xFFFFFFFF
            connection._rekey_bytes_sent += len(plain)
            self.sent += size
        connection._send(room[:at])

    def _take(self, size: int) -> list[memoryview]:
        self._queued -= size
        taken = []
        while size:
            first = self._queue.popleft()
            if len(first) > size:
                self._queue.appendleft(first[size:])
                first = first[:size]
            taken.append(first)
            size -= len(first)
        return taken
