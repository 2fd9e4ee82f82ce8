"""The contract of a connector. `tests/connectors/contract.py` holds the same promises as tests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, Self, runtime_checkable
from urllib.parse import quote

from data_export.content import Content, Digests
from data_export.errors import PermanentError

LONGEST_LINK_HOURS = 168  # where signed links of Cloud Storage and S3 end at the latest


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a server says of one object: its name below the root, and the digests it confirms.

    `encoding` is how its stored bytes are compressed (`gzip`), where the store says so: `read` gives them as they are.
    `partial` is what a listing says where a look says more, of digests or encoding. `version` is what the server calls
    just these bytes (an ETag), where it may copy them without another look.
    """

    key: str
    digests: Digests
    modified: datetime | None = None
    encoding: str | None = None
    partial: bool = False
    version: str | None = None


def encoding_of(content_encoding: str | None) -> str | None:
    """What an object's `Content-Encoding` says of its bytes; how they once were sent (`aws-chunked`) is no encoding."""
    named = [part.strip().lower().removeprefix("x-") for part in (content_encoding or "").split(",")]
    return ",".join(part for part in named if part not in ("", "identity", "aws-chunked")) or None


class Destination(Protocol):
    """Named objects below one root (a bucket prefix or a folder), each complete or absent.

    Used as `async with destination:`; the connection opens on entry and belongs to that event loop. Every method may be
    called many times at once. Keys are those of `data_export.layout`. All methods raise errors of `data_export.errors`
    only, permanent or transient, naming the object and the fix.
    """

    @property
    def uri(self) -> str:
        """Root of all keys as a person would write it, without secrets, e.g. `gs://bucket/prefix/`."""
        ...

    @property
    def concurrency(self) -> int:
        """How many operations at once serve this kind of target best."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def stat(self, key: str) -> StoredObject | None:
        """The object, or None where there is none."""
        ...

    async def create(self, key: str, content: Content) -> StoredObject:
        """Stores a new object, verified by the server's size, and checksum if it has one; seen only when complete.

        Raises:
            ObjectExists: there is an object of that name; nothing was changed.
        """
        ...

    async def replace(self, key: str, content: Content) -> StoredObject:
        """Stores the object whether or not one exists, atomically: a reader sees the old bytes or the new.

        Raises:
            OverwriteRefused: an object exists and the target does not let us replace it.
        """
        ...

    def read(self, key: str) -> AsyncIterator[bytes]:
        """Streams the object's bytes, at most about 8 MiB at a time.

        Raises:
            TargetNotFound: there is no such object.
        """
        ...

    async def delete(self, key: str) -> None:
        """Removes the object; no error where there is none."""
        ...


class Store(Destination, Protocol):
    """A destination that the platform owns: staging area and image store."""

    def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Every object whose key begins with `prefix`, page by page."""
        ...

    async def sign(self, key: str, lifetime: timedelta, file_name: str) -> str:
        """A link with which anybody can download the object until `lifetime` is over.

        Raises:
            PermanentError: the credentials cannot sign, or not for that long.
        """
        ...


@runtime_checkable
class Listing(Protocol):
    """What a destination adds that can say what it holds; a `Store` always can."""

    def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """As `Store.list`; on a server with folders, `prefix` is one of these and ends in `/`."""
        ...


@runtime_checkable
class WithFolders(Protocol):
    """What a destination adds whose folders must be made, and stay when they are empty."""

    def folder_for_a_while(self, folder: str) -> AbstractAsyncContextManager[None]:
        """Makes the folder, with those above it, where it is missing; at the end removes what it made, if it is empty.

        Raises:
            AccessDenied: it is missing and the server does not let us make it.
        """
        ...


@runtime_checkable
class WithFolderListing(Protocol):
    """What a destination adds where the names in a folder cost less than a look at each of them."""

    def files_in(self, folder: str) -> AsyncIterator[Sequence[StoredObject]]:
        """Pages of the files in the folder, by size, time and what digests a listing has; none where it is missing.

        An equal digest proves equal bytes; one that differs proves nothing, as a listing may not know what it is of.
        What is no plain file, or whose size the server does not say, is left out: only a look decides.

        Raises:
            AccessDenied: the server does not list the folder.
        """
        ...


@runtime_checkable
class WithFullListing(WithFolderListing, Protocol):
    """What a store adds whose listing says of an object all that a look says, so that the look may be spared."""

    lists_in_full: Literal[True]


@runtime_checkable
class WithGlance(Protocol):
    """What a store adds whose `stat` costs as much as to read the object."""

    async def glance(self, key: str) -> StoredObject | None:
        """As `stat`, by size and time only: whoever reads the object next computes its digests then."""
        ...


@runtime_checkable
class WithServerDigest(Protocol):
    """What a destination adds whose server may compute a digest when it is asked, which `stat` does not."""

    async def digest(self, key: str, size: int) -> Digests | None:
        """Of the object, which has that size; None where the server does not compute it: it must be read.

        Raises:
            TargetUnavailable: the connection is lost.
        """
        ...


@runtime_checkable
class WithLeftOvers(Protocol):
    """What a destination adds where a killed run leaves more behind than nothing: a server keeps no half of an object,
    or forgets it by itself, everywhere else."""

    async def tidy(self, folders: Sequence[str]) -> int:
        """Removes what was begun below these folders more than a day ago and never ended; returns how much.

        Where an old file was moved aside for a new one that never came, it has its name back. At most 1,000 are
        removed of each folder, and a folder is looked at for at most a minute.

        Args:
            folders: keys of folders that exports write to, each with nothing but their files.
        """
        ...


@runtime_checkable
class ServerSideCopy(Protocol):
    """What a destination adds when its server can copy from another root by itself."""

    def can_copy_from(self, source: Destination) -> bool:
        """Whether the same kind of server holds `source`; says nothing of rights, which only a copy shows."""
        ...

    async def look_to_copy(self, source: Destination, source_key: str) -> StoredObject | None:
        """As `source.stat`, by no more than `copy_from` needs; `partial` where that is less."""
        ...

    async def copy_from(
        self, source: Destination, source_key: str, key: str, here: StoredObject | None = None
    ) -> StoredObject:
        """Creates `key` from the source's object without moving its bytes through this process.

        Args:
            here: what a listing or a look said of the source's object; where it is another by now, nothing is copied,
                or what is returned has other digests.

        Raises:
            ObjectExists: there is an object of that name; nothing was changed.
            TargetNotFound: the source has no such object.
            AccessDenied: the target's identity may not read the source: stream instead.
        """
        ...


def check_lifetime(address: str, lifetime: timedelta) -> None:
    """Passes a lifetime that a link can have.

    Raises:
        PermanentError: longer than any link works; boto3 would sign it all the same, and S3 refuse it.
    """
    if lifetime > timedelta(hours=LONGEST_LINK_HOURS):
        fix = f"set link_ttl_hours to at most {LONGEST_LINK_HOURS}"
        raise PermanentError(f"{address}: no link works for {hours(lifetime)}: {fix}")


def hours(lifetime: timedelta) -> str:
    """The lifetime as messages say it."""
    return f"{lifetime.total_seconds() / 3600:g} hours"


def attachment(file_name: str) -> str:
    """`Content-Disposition` that makes a browser save the download under that name (RFC 6266)."""
    return f"attachment; filename*=UTF-8''{quote(file_name, safe='')}"
