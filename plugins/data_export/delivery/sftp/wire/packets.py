"""Packets of SFTP version 3: how they are written and read."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, OPENDIR = 1, 2, 3, 4, 5, 6, 7, 8, 11
READDIR, REMOVE, MKDIR, RMDIR, STAT, RENAME = 12, 13, 14, 15, 17, 18
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED, EXTENDED_REPLY = 101, 102, 103, 104, 105, 200, 201

#: What a file is opened for: the flags of the protocol.
READING, ADDING, WRITING, CREATING = 0x01, 0x02, 0x02 | 0x08 | 0x10, 0x02 | 0x08 | 0x20

_SIZE, _OWNER, _MODE, _TIMES, _MORE = 0x01, 0x02, 0x04, 0x08, 0x80000000
#: A flag of later versions, which a server of Huawei's sets all the same.
_HARMLESS = 0x20
_LONGEST_PACKET = 4 << 20
#: A code that no server sends, for an answer that cannot be read, and the words where no further one can be.
BREACH, OUT_OF_STEP = -1, "what it sends answers no request"
_U32 = struct.Struct(">I")
u32 = _U32.pack


def text(value: bytes) -> bytes:
    """A string of the protocol: its length, and its bytes."""
    return _U32.pack(len(value)) + value


@dataclass(slots=True)
class Attributes:
    """What a server says of a file; None where it does not. `mtime`: seconds since 1970."""

    size: int | None = None
    mode: int | None = None
    mtime: int | None = None

    @property
    def is_folder(self) -> bool:
        return self.mode is not None and S_IFMT(self.mode) == S_IFDIR

    @property
    def is_link(self) -> bool:
        return self.mode is not None and S_IFMT(self.mode) == S_IFLNK

    @property
    def is_file(self) -> bool:
        return self.mode is not None and S_IFMT(self.mode) == S_IFREG

    @property
    def has_kind(self) -> bool:
        return self.mode is not None and S_IFMT(self.mode) != 0


@dataclass(slots=True)
class FileSystem:
    """What `statvfs@openssh.com` says of a file system: its bytes and files, those free for us, and its flags."""

    all_bytes: int
    free_bytes: int
    files: int
    free_files: int
    flags: int


class Limits(NamedTuple):
    """What `limits@openssh.com` says; `handles` is 0 where the server does not say how many may be open."""

    read: int = 16_384
    write: int = 16_384
    handles: int = 0


@dataclass(slots=True)
class Reader:
    """Takes the values of a packet from its front. Raises ValueError or struct.error where it ends too early."""

    packet: bytes
    at: int = field(default=0)

    def u32(self) -> int:
        value: int = _U32.unpack_from(self.packet, self.at)[0]
        self.at += 4
        return value

    def u64s(self, count: int) -> tuple[int, ...]:
        values = struct.unpack_from(f">{count}Q", self.packet, self.at)
        self.at += 8 * count
        return values

    def text(self) -> bytes:
        length = self.u32()
        end = self.at + length
        if end > len(self.packet):
            raise ValueError("a string is longer than its packet")
        value = self.packet[self.at : end]
        self.at = end
        return value

    @property
    def is_left(self) -> bool:
        return self.at < len(self.packet)

    def attributes(self) -> Attributes:
        flags, found = self.u32(), Attributes()
        if flags & ~(_SIZE | _OWNER | _MODE | _TIMES | _MORE | _HARMLESS):
            raise ValueError(f"attributes of another version (flags {flags:#x})")
        if flags & _SIZE:
            found.size = self.u64s(1)[0]
        if flags & _OWNER:
            self.at += 8
        if flags & _MODE:
            found.mode = self.u32()
        if flags & _TIMES:
            self.at += 4  # of the last access
            found.mtime = self.u32()
        if flags & _MORE:
            for _ in range(self.u32()):
                self.text(), self.text()
        return found

    def names(self) -> list[tuple[bytes, Attributes]]:
        """File names with what their server says of each, without the line of `ls` that comes with it."""
        found = []
        for _ in range(self.u32()):
            name, _ = self.text(), self.text()
            found.append((name, self.attributes()))
        return found


def whole(received: bytearray) -> list[bytes]:
    """Takes from the front of what was received the packets that are whole, without their lengths.

    Raises:
        ValueError: what comes is no packet.
    """
    found, at = [], 0
    while len(received) - at >= 4:
        length = _U32.unpack_from(received, at)[0]
        if not 5 <= length <= _LONGEST_PACKET:
            raise ValueError(f"a packet of {length} bytes")
        if len(received) - at < 4 + length:
            break
        found.append(bytes(received[at + 4 : at + 4 + length]))
        at += 4 + length
    del received[:at]
    return found


def answer(kind: int, reader: Reader, expected: int, read: Callable[[Reader], T]) -> T:
    """What a packet of this kind says to a request whose answer is of the kind `expected`.

    Raises:
        asyncssh.SFTPError: it is a status that says why not; or it is none of these, or ends too early: `BREACH`.
    """
    import asyncssh

    try:
        if kind == STATUS and (error := failure(reader)):
            raise error
        if kind != expected:
            raise ValueError("it says OK and no more" if kind == STATUS else f"it is of type {kind}, not {expected}")
        return read(reader)
    except (ValueError, struct.error) as broken:
        why = broken if isinstance(broken, ValueError) else "it ends too early"
        raise asyncssh.SFTPError(BREACH, f"an answer cannot be read: {why}") from None


def nothing(_reader: Reader) -> Any: ...


def read_handle(reader: Reader) -> bytes:
    return reader.text()


def read_block(longest: int, reader: Reader) -> bytes:
    if len(block := reader.text()) > longest:  # the next ones would be taken for what comes after it
        raise ValueError(f"{len(block)} bytes where {longest} were asked for")
    return block


def read_offers(reader: Reader) -> dict[bytes, bytes]:
    """The extensions that a server offers, by name, with their versions."""
    if (version := reader.u32()) != 3:
        raise ValueError(f"version {version}")
    offers = {}
    while reader.is_left:
        name = reader.text()
        offers[name] = reader.text()
    return offers


def read_limits(reader: Reader) -> Limits:
    _, read, write, handles = reader.u64s(4)
    return Limits(read or Limits().read, write or Limits().write, handles)


def read_sha256(reader: Reader) -> str:
    """Hexadecimal, from the answer to `check-file-name`: some servers say that name first."""
    if (name := reader.text()) == b"check-file":
        name = reader.text()
    digest = reader.packet[reader.at :]
    if name != b"sha256" or len(digest) != 32:
        raise ValueError(f"{name!r} of {len(digest)} bytes is no SHA-256")
    return digest.hex()


def read_file_system(reader: Reader) -> FileSystem:
    _, unit, blocks, _, free, files, _, free_files, _, flags, _ = reader.u64s(11)
    return FileSystem(unit * blocks, unit * free, files, free_files, flags)


def failure(reader: Reader) -> Exception | None:
    """The error that a status says, as asyncssh calls it; None where all went well."""
    import asyncssh

    code = reader.u32()
    if code == 0:
        return None
    reason = reader.text().decode(errors="backslashreplace") if reader.is_left else ""  # some servers say no more
    for kind in asyncssh.SFTPError.__subclasses__():
        error: asyncssh.SFTPError = kind(reason)  # type: ignore[call-arg,arg-type] # these bring their code along
        if error.code == code:
            return error
    return asyncssh.SFTPError(code, f"{reason} (error {code})")
