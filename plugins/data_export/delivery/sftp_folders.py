"""Folders of an SFTP server: made when missing, and rid of what a killed run left in them."""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from data_export.delivery.sftp_errors import diagnose, is_lost
from data_export.delivery.shared import SharedAttempts
from data_export.errors import AccessDenied, TargetFull, TargetRefused

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")

#: What unfinished files are called; no object's name may begin so.
TEMPORARY_PREFIX = ".data-export-"
# A folder of images may hold millions of files; to list 20,000 takes OpenSSH 200 answers.
_NAMES_LOOKED_AT = 20_000


class Session(Protocol):
    """What is needed of `SftpSession`, which holds a `Folders`."""

    client: "asyncssh.SFTPClient"
    user: str

    async def ask(self, request: Awaitable[T]) -> T: ...

    async def remove_quietly(self, path: str) -> None: ...


def temporary_path(path: str) -> str:
    """A new name beside `path`: the prefix, what tells the object, and what tells this write from all others.

    Two writers of one object never share a file, so neither can give the other's unfinished bytes the final name.
    """
    return f"{_temporary_stem(path)}{secrets.token_hex(6)}.tmp"


def _temporary_stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{TEMPORARY_PREFIX}{hashlib.sha256(name.encode()).hexdigest()[:16]}-"


class Folders:
    """The folders that one session writes to, each looked at once. Holds their names and those of left-over files."""

    def __init__(self, session: Session, uri: str) -> None:
        self._session = session
        self._uri = uri
        self._ready: SharedAttempts[None] = SharedAttempts()
        self._left_over: dict[str, list[str]] = defaultdict(list)

    async def ready(self, folder: str) -> None:
        """Makes the folder and those above it where they are missing.

        Raises:
            AccessDenied: it is missing and the server does not let us make it.
            TargetRefused: a file is in its place.
        """
        await self._ready.get(folder, lambda: self._prepare(folder))

    async def remove_left_over(self, path: str) -> None:
        """Removes the unfinished files of this object that were there when the session first came to the folder.

        Called after a write, so that the file of a run that is alive is taken from it only when the object is there.
        """
        for left in self._left_over.pop(_temporary_stem(path), ()):
            await self._session.remove_quietly(left)

    async def close(self) -> None:
        await self._ready.cancel()

    async def _prepare(self, folder: str) -> None:
        if not await self._make(folder):
            await self._look_for_left_over(folder)

    async def _make(self, folder: str) -> bool:
        """Whether the folder was missing and is made; tolerates others who make it at the same time."""
        import asyncssh

        if folder in ("", "/") or await self._is_there(folder):
            return False
        above = folder.rpartition("/")[0] or folder[: folder.startswith("/")]
        await self._make(above)
        try:
            await self._session.ask(self._session.client.mkdir(folder))
        except asyncssh.SFTPError as error:
            if is_lost(error):
                raise
            if await self._is_there(folder):
                return False
            reason = await diagnose(
                error, f"folder {folder!r} of {self._uri}", self._session.user, self._session.client, above or ".", 1
            )
            if isinstance(reason, TargetFull):
                raise reason from error
            raise AccessDenied(
                f"folder {folder!r} of {self._uri} is missing and the server does not let us make it: create it there, "
                "or give the user the right to, or correct sftp_remote_path"
            ) from error
        return True

    async def _is_there(self, folder: str) -> bool:
        import asyncssh

        try:
            found = await self._session.ask(self._session.client.stat(folder))
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            return False
        except asyncssh.SFTPPermissionDenied as error:
            raise AccessDenied(
                f"folder {folder!r} of {self._uri} is closed to us: give the user read and write rights there"
            ) from error
        if found.type not in (asyncssh.FILEXFER_TYPE_DIRECTORY, asyncssh.FILEXFER_TYPE_UNKNOWN):
            raise TargetRefused(f"{folder!r} of {self._uri} is a file where a folder must be: remove or rename it")
        return True

    async def _look_for_left_over(self, folder: str) -> None:
        import asyncssh

        # Bytes, because a name that somebody else left there need not be UTF-8.
        entries = cast("AsyncGenerator[asyncssh.SFTPName, None]", self._session.client.scandir(folder.encode() or b"."))
        lead = f"{folder.rstrip('/')}/" if folder else ""
        prefix = TEMPORARY_PREFIX.encode()
        try:
            async with aclosing(entries):
                for _ in range(_NAMES_LOOKED_AT):
                    name = (await self._session.ask(anext(entries))).filename
                    if isinstance(name, bytes) and name.startswith(prefix):
                        stem, _, token = (lead + name.decode(errors="replace")).rpartition("-")
                        self._left_over[f"{stem}-"].append(f"{stem}-{token}")
        except StopAsyncIteration:
            return
        except asyncssh.SFTPError as error:
            if is_lost(error):
                raise
            # A drop box may take files without ever listing them: then nothing can be cleaned.
