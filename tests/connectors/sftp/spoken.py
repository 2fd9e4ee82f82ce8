"""A server that speaks SFTP's packets itself, so that a test may have it say anything."""

import struct
from pathlib import Path
from typing import Any

import asyncssh

from data_export.content import Content
from data_export.delivery.sftp.destination import SftpDestination
from data_export.delivery.sftp.wire import packets
from data_export.delivery.sftp.wire.packets import Reader, text, u32, whole
from demo.servers.sftp import SftpServer, _OneUser
from tests.connectors.contract import random_bytes
from tests.connectors.sftp.logins import login_of

OK, EOF, NO_SUCH_FILE, DENIED, FAILURE = 0, 1, 2, 3, 4
FOLDER, FILE = 0o040755, 0o100644
LONG = Content.of_bytes(random_bytes(200_000))
BREACH = "does not speak SFTP as it should"


def status(code: int, reason: str = "") -> bytes:
    return bytes((packets.STATUS,)) + u32(code) + text(reason.encode()) + text(b"")


def attributes(size: int, mode: int = FILE) -> bytes:
    return bytes((packets.ATTRS,)) + struct.pack(">IQIII", 0x0D, size, mode, 1, 1)


def data(block: bytes) -> bytes:
    return bytes((packets.DATA,)) + text(block)


def names(*found: bytes, mode: int = FILE) -> bytes:
    one = struct.pack(">IQIII", 0x0D, 7, mode, 1, 1)
    return bytes((packets.NAME,)) + u32(len(found)) + b"".join(text(name) + text(b"") + one for name in found)


class Spoken(asyncssh.SSHServerSession[bytes]):
    """Holds files in memory, and answers requests by the methods that are named as these; a test has a sub-class.

    An answer is a packet without its length and number; None: there is none.
    """

    offers: dict[bytes, bytes] = {b"posix-rename@openssh.com": b"1", b"fsync@openssh.com": b"1"}  # noqa: RUF012
    requests = ("open", "close", "read", "write", "lstat", "fstat", "", "", "opendir", "readdir", "remove", "mkdir")
    files: dict[bytes, bytearray]
    asked: list[str]
    open_handles: set[bytes]

    def __init__(self) -> None:
        self.received = bytearray()
        self.listed: set[bytes] = set()
        self.number = 0

    def connection_made(self, chan: Any) -> None:
        self.channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def data_received(self, data: bytes, datatype: object) -> None:
        self.received += data
        for packet in whole(self.received):
            if packet[0] == packets.INIT:
                offers = b"".join(text(name) + text(version) for name, version in self.offers.items())
                self.write_packet(bytes((packets.VERSION,)) + u32(3) + offers)
            else:
                reader = Reader(packet, 1)
                self.number = reader.u32()
                self.asked.append(name := self.name_of(packet[0]))
                answer = getattr(self, name)(reader)
                if answer is not None:
                    self.say(self.number, answer)

    def name_of(self, kind: int) -> str:
        if kind == packets.EXTENDED:
            return "extended"
        return {16: "realpath", 17: "stat", 18: "rename", 15: "rmdir"}.get(kind) or self.requests[kind - packets.OPEN]

    def say(self, number: int, answer: bytes) -> None:
        self.write_packet(answer[:1] + u32(number) + answer[1:])

    def write_packet(self, packet: bytes) -> None:
        self.channel.write(u32(len(packet)) + packet)

    def open(self, reader: Reader) -> bytes:
        path, flags = reader.text(), reader.u32()
        if flags & 0x20 and path in self.files:
            return status(FAILURE, "Failure")
        if flags & 0x18:
            self.files[path] = bytearray()
        if path not in self.files:
            return status(NO_SUCH_FILE)
        handle = path + b"#%d" % len(self.asked)
        self.open_handles.add(handle)
        return bytes((packets.HANDLE,)) + text(handle)

    def close(self, reader: Reader) -> bytes:
        self.open_handles.discard(reader.text())
        return status(OK)

    def of_handle(self, reader: Reader) -> bytearray:
        return self.files[reader.text().rpartition(b"#")[0]]

    def read(self, reader: Reader) -> bytes | None:
        file, offset, length = self.of_handle(reader), reader.u64s(1)[0], reader.u32()
        found = bytes(file[offset : offset + length])
        return data(found) if found else status(EOF)

    def write(self, reader: Reader) -> bytes | None:
        file, offset = self.of_handle(reader), reader.u64s(1)[0]
        block = reader.text()
        file.extend(bytes(max(offset - len(file), 0)))
        file[offset : offset + len(block)] = block
        return status(OK)

    def stat(self, reader: Reader) -> bytes:
        path = reader.text()
        if path in self.files:
            return attributes(len(self.files[path]))
        return attributes(0, FOLDER) if path in (b".", b"/", b"/target") else status(NO_SUCH_FILE)

    lstat = stat

    def fstat(self, reader: Reader) -> bytes:
        return attributes(len(self.of_handle(reader)))

    def opendir(self, reader: Reader) -> bytes:
        handle = reader.text() + b"#%d" % len(self.asked)
        self.open_handles.add(handle)
        return bytes((packets.HANDLE,)) + text(handle)

    def readdir(self, reader: Reader) -> bytes:
        handle = reader.text()
        if handle in self.listed:
            return status(EOF)
        self.listed.add(handle)
        return names(*(path.rpartition(b"/")[2] for path in self.files))

    def remove(self, reader: Reader) -> bytes:
        return status(NO_SUCH_FILE if self.files.pop(reader.text(), None) is None else OK)

    def mkdir(self, reader: Reader) -> bytes:
        return status(OK)

    rmdir = mkdir

    def rename(self, reader: Reader) -> bytes:
        old, new = reader.text(), reader.text()
        if new in self.files:
            return status(FAILURE)
        return self.move(old, new)

    def move(self, old: bytes, new: bytes) -> bytes:
        if old not in self.files:
            return status(NO_SUCH_FILE)
        self.files[new] = self.files.pop(old)
        return status(OK)

    def extended(self, reader: Reader) -> bytes | None:
        name = reader.text()
        self.asked[-1] = name.decode()
        if name == b"posix-rename@openssh.com":
            return self.move(reader.text(), reader.text())
        return status(OK) if name in self.offers else status(8, "Operation unsupported")


class SpokenServer(SftpServer):
    def __init__(self, folder: Path, spoken: type[Spoken], **options: Any) -> None:
        super().__init__(folder, **options)
        spoken.files, spoken.asked, spoken.open_handles = {}, [], set()
        self.spoken = spoken

    async def _listen(self) -> asyncssh.SSHAcceptor:
        allowed, spoken = asyncssh.import_public_key(self.keys.client_key), self.spoken

        class Server(_OneUser):
            def session_requested(self) -> Any:
                return self._connection.create_server_channel(encoding=None), spoken()

        return await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=lambda: Server(allowed, self._connections),
            server_host_keys=[self.keys.host_key_path],
            **self._options,
        )


def target(server: SpokenServer, **options: Any) -> SftpDestination:
    return SftpDestination(login_of(server), "/target", connect_timeout=5, stall_timeout=5, **options)
