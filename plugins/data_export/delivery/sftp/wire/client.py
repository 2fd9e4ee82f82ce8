"""A client of SFTP version 3: each request is a future, and any number may be sent before the first is answered."""

import asyncio
import struct
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from data_export.delivery.sftp.wire import packets
from data_export.delivery.sftp.wire.cork import Outlet, leave_out_ignored
from data_export.delivery.sftp.wire.packets import Attributes, FileSystem, Limits, Reader, text, u32

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")
Answer = asyncio.Future[T]

# So much is handed to asyncssh at once, so that it encrypts while more is read from disk.
_FULL_BYTES = 512 << 10
_WINDOW = 4 << 20  # bytes that the server may send ahead; asyncssh's own 2 MiB are less than `read` asks for
_NO_ATTRIBUTES = u32(0)
_HELLO = -1  # in place of the number that the first packet has not


class SftpClient:
    """Requests that are made in one turn of the loop leave in one piece. Each may raise `asyncssh.SFTPError`.

    For asyncssh it is the session on `channel`, of which it calls the methods at the end; that is None once it is over.
    """

    def __init__(self) -> None:
        self.limits = Limits()
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._offers: dict[bytes, bytes] = {}
        self.outlet: Outlet
        self.channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._waiting: dict[int, tuple[Answer[Any], int, Callable[[Reader], Any]]] = {}
        self._number = self._held_bytes = 0
        self._held: list[bytes] = []
        self._over = "Connection not open"
        self._received = bytearray()

    @classmethod
    async def start(cls, connection: "asyncssh.SSHClientConnection") -> Self:
        """
        Raises:
            asyncssh.ChannelOpenError, asyncssh.SFTPError: the server does not offer SFTP.
        """
        import asyncssh

        leave_out_ignored(connection)
        client = cls()
        hello: Answer[dict[bytes, bytes]] = client._loop.create_future()
        hello.add_done_callback(heard)
        client._waiting[_HELLO] = (hello, packets.VERSION, packets.read_offers)  # some speak before they are spoken to
        made = cast("Any", lambda: client)
        channel, _ = await connection.create_session(made, subsystem="sftp", encoding=None, window=_WINDOW)
        client.outlet = Outlet(connection, channel)
        client._send((u32(5), bytes((packets.INIT,)), u32(3)))
        client._offers = await hello
        if "mod_sftp" in str(connection.get_extra_info("server_version")):
            client._offers.setdefault(b"check-file-name", b"")  # ProFTPD says so to others only
        if client._offers.get(b"limits@openssh.com") == b"1":
            with suppress(asyncssh.SFTPError):  # offered, and refused all the same
                client.limits = await client._extended(b"limits@openssh.com", b"", packets.read_limits)
        return client

    @property
    def silent_seconds(self) -> float:
        """How long the server has left requests without any answer."""
        return self._loop.time() - self._heard if self._waiting else 0

    def open(self, path: str, flags: int) -> Answer[bytes]:
        """The file's handle; `flags` is READING, ADDING, WRITING, or CREATING, which fails where there is a file."""
        return self._ask(packets.OPEN, packets.HANDLE, packets.read_handle, _name(path), u32(flags), _NO_ATTRIBUTES)

    def read(self, handle: bytes, offset: int, length: int) -> Answer[bytes]:
        where = struct.pack(">QI", offset, length)
        return self._ask(packets.READ, packets.DATA, partial(packets.read_block, length), text(handle), where)

    def write(self, handle: bytes, offset: int, block: bytes) -> Answer[None]:
        where = struct.pack(">QI", offset, len(block))
        return self._ask(packets.WRITE, packets.STATUS, packets.nothing, text(handle), where, block)

    def fsync(self, handle: bytes) -> Answer[None]:
        return self._extended(b"fsync@openssh.com", text(handle))

    def close(self, handle: bytes) -> Answer[None]:
        return self._ask(packets.CLOSE, packets.STATUS, packets.nothing, text(handle))

    def fstat(self, handle: bytes) -> Answer[Attributes]:
        return self._ask(packets.FSTAT, packets.ATTRS, Reader.attributes, text(handle))

    def stat(self, path: str) -> Answer[Attributes]:
        return self._ask(packets.STAT, packets.ATTRS, Reader.attributes, _name(path))

    def lstat(self, path: str) -> Answer[Attributes]:
        return self._ask(packets.LSTAT, packets.ATTRS, Reader.attributes, _name(path))

    def remove(self, path: str) -> Answer[None]:
        return self._ask(packets.REMOVE, packets.STATUS, packets.nothing, _name(path))

    def mkdir(self, path: str) -> Answer[None]:
        return self._ask(packets.MKDIR, packets.STATUS, packets.nothing, _name(path), _NO_ATTRIBUTES)

    def rmdir(self, path: str) -> Answer[None]:
        return self._ask(packets.RMDIR, packets.STATUS, packets.nothing, _name(path))

    def rename(self, path: str, new: str) -> Answer[None]:
        return self._ask(packets.RENAME, packets.STATUS, packets.nothing, _name(path), _name(new))

    def posix_rename(self, path: str, new: str) -> Answer[None]:
        return self._extended(b"posix-rename@openssh.com", _name(path) + _name(new))

    def statvfs(self, path: str) -> Answer[FileSystem]:
        return self._extended(b"statvfs@openssh.com", _name(path), packets.read_file_system)

    def sha256(self, path: str) -> Answer[str]:
        """What the server computes of the file from byte 0 to the end, as one block: these are the zeros."""
        return self._extended(b"check-file-name", _name(path) + text(b"sha256") + bytes(20), packets.read_sha256)

    async def scandir(self, path: str, ahead: int = 1) -> AsyncGenerator[list[tuple[bytes, Attributes]], None]:
        """The names in a folder, as many at a time as the server sends (OpenSSH: 100), `.` and `..` among them.

        Args:
            ahead: so many pages are asked for at once; more than one only where the server works in order.
        """
        import asyncssh

        handle = await self._ask(packets.OPENDIR, packets.HANDLE, packets.read_handle, _name(path))
        pages: deque[Answer[list[tuple[bytes, Attributes]]]] = deque()
        try:
            with suppress(asyncssh.SFTPEOFError):
                while True:
                    while len(pages) < ahead:
                        pages.append(self._ask(packets.READDIR, packets.NAME, Reader.names, text(handle)))
                    if not (page := await pages.popleft()):
                        return
                    yield page
        finally:
            for answer in pages:
                answer.cancel()
            with suppress(asyncssh.SFTPError):
                await self.close(handle)

    def exit(self) -> None:
        if self.channel is not None:
            self.channel.close()

    def _extended(self, name: bytes, rest: bytes, read: Callable[[Reader], T] | None = None) -> Answer[T]:
        if name not in self._offers:
            import asyncssh

            return _failed(asyncssh.SFTPOpUnsupported(f"{name.decode()} is not offered"))
        kind = packets.STATUS if read is None else packets.EXTENDED_REPLY
        return self._ask(packets.EXTENDED, kind, read or packets.nothing, text(name), rest)

    def _ask(self, request: int, kind: int, read: Callable[[Reader], Any], *parts: bytes) -> Answer[Any]:
        """Sends a request; its answer is of `kind`, or a status that says why not."""
        if self.channel is None:
            import asyncssh

            return _failed(asyncssh.SFTPNoConnection(self._over))
        number = self._number = (self._number + 1) & 0xFFFFFFFF
        if not self._waiting:
            self._heard = self._loop.time()
        answer: Answer[Any] = self._loop.create_future()
        self._waiting[number] = (answer, kind, read)
        length = 5 + sum(map(len, parts))
        self._send((struct.pack(">IBI", length, request, number), *parts))
        return answer

    def _send(self, parts: tuple[bytes, ...]) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held += parts
        self._held_bytes += sum(map(len, parts))
        if self._held_bytes >= _FULL_BYTES:
            self._flush()

    def _flush(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        if held and self.channel is not None and not self.channel.is_closing():
            self.outlet.write(held)

    def _take(self, packet: bytes) -> None:
        import asyncssh

        kind, reader = packet[0], Reader(packet, 1)
        answer, expected, read = self._waiting.pop(_HELLO if kind == packets.VERSION else reader.u32())
        try:
            found = packets.answer(kind, reader, expected, read)
            if not answer.done():
                answer.set_result(found)
            elif kind == packets.HANDLE:  # whoever waited for the file was cancelled
                self.close(found).add_done_callback(heard)
        except asyncssh.SFTPError as error:
            if not answer.done():
                answer.set_exception(error)

    # What asyncssh calls.

    def connection_made(self, channel: "asyncssh.SSHClientChannel[bytes]") -> None:
        self.channel = channel

    def data_received(self, data: bytes, stream: object) -> None:
        if stream is not None or self.channel is None:  # its standard error, or what comes after the end
            return
        self._heard = self._loop.time()
        self._received += data
        try:
            for packet in packets.whole(self._received):
                self._take(packet)
        except (ValueError, KeyError):  # no packet, or the answer to no request
            self._end(packets.OUT_OF_STEP)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error or "Connection closed"))

    def eof_received(self) -> bool:
        self._end("Connection closed")
        return False

    def _end(self, why: str) -> None:
        import asyncssh

        if self.channel is not None:
            self.channel.close()
            self.channel, self._over = None, why
        waiting, self._waiting = self._waiting, {}
        for answer, _, _ in waiting.values():
            if not answer.done():
                answer.set_exception(asyncssh.SFTPConnectionLost(why))

    def _ignore(self, *_: object) -> None: ...

    session_started = exit_status_received = exit_signal_received = pause_writing = resume_writing = _ignore
    xon_xoff_requested = _ignore


def _failed(error: Exception) -> Answer[Any]:
    answer: Answer[Any] = asyncio.get_running_loop().create_future()
    answer.set_exception(error)
    return answer


def heard(answer: Answer[Any]) -> None:
    """For an answer that nobody waits for: asyncio logs errors that nobody has looked at."""
    if not answer.cancelled():
        answer.exception()


def _name(path: str) -> bytes:
    return text(path.encode())
