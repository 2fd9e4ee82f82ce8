"""Writes one file on an SFTP server: beside its final name and then renamed, or directly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from data_export.content import Content
from data_export.delivery.sftp.errors import PerhapsTooMany, TooManyAtOnce, name_refused, named, perhaps_too_many
from data_export.delivery.sftp.leftovers import LeftOver, takes_colons, temporary_path
from data_export.delivery.sftp.rename import Claims, overwrite_refused, place_new, place_over
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.delivery.sftp.transfer import Verify, open_file, store
from data_export.delivery.sftp.wire.packets import CREATING, WRITING, Attributes
from data_export.errors import (
    AccessDenied,
    DataExportError,
    ObjectExists,
    ObjectRefused,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
)


async def counted(chunks: AsyncIterator[bytes], *, said_empty: bool) -> int | None:
    """The bytes of a file whose size the server does not know, or says to be 0; None where it has just gone."""
    size = 0
    try:
        with suppress(*([PermissionError] if said_empty else [])):
            async for chunk in chunks:
                size += len(chunk)
    except TargetNotFound:
        return None
    return size


_UNDONE_SECONDS = 5


class Writer:
    """Writes files so that each is complete or absent, in the way that this server bears.

    Args:
        uri: root of all keys, for messages.
        direct: write under the final name, and not beside it.
        verify: see `SftpConfig`.
    """

    def __init__(self, uri: str, left_over: LeftOver, *, direct: bool, verify: Verify) -> None:
        self._uri = uri
        self._left_over = left_over
        self._claims = Claims()
        self._direct = direct
        self._verify = verify
        #: Folders in which an unfinished file could be opened.
        self._opened: set[str] = set()

    async def write(
        self, session: SftpSession, key: str, path: str, content: Content, *, replace: bool, alone: bool
    ) -> Attributes:
        """
        Args:
            alone: no other file of ours is being written.

        Raises:
            ObjectExists, OverwriteRefused: as `Destination` says.
            TooManyAtOnce: the server takes this file as soon as fewer are open.
            DataExportError: see `diagnose`.
        """
        write = self._directly if self._direct else self._aside
        return await write(session, self._uri + key, path, content, replace=replace, alone=alone)

    async def _aside(
        self, session: SftpSession, where: str, path: str, content: Content, *, replace: bool, alone: bool
    ) -> Attributes:
        temporary = temporary_path(path)
        try:
            file = await self._open_aside(session, temporary, content, where, alone)
            found = await store(session, file, temporary, content, verify=self._verify, where=where, final=path)
            if replace:
                await place_over(session, temporary, path, where, self._left_over, self._claims)
            else:
                await place_new(session, temporary, path, where, self._claims)
        except BaseException as error:
            # Also when we are cancelled while the file is opened: the answer is never seen, but the name is ours alone.
            await self._left_over.drop(session, temporary)
            # A quicker writer of the same object takes the unfinished files of others for left over.
            if isinstance(error, TargetUnavailable) and not replace and session.alive and await session.exists(path):
                raise ObjectExists(f"{where} is there already") from error
            raise
        return found

    async def _open_aside(
        self, session: SftpSession, temporary: str, content: Content, where: str, alone: bool
    ) -> bytes:
        """Opens the unfinished file; what such a name is refused for may be a limit of open files, or its dot."""
        import asyncssh

        folder = temporary.rpartition("/")[0]
        try:
            file = await open_file(session, temporary, CREATING, content, where)
        except (AccessDenied, TargetNotFound, TargetRefused, TargetUnavailable) as error:
            cause = error.__cause__
            if isinstance(error, TooManyAtOnce) or not session.alive:
                raise
            # Some servers answer so with no word of a limit; whether it is one shows when no other file is open.
            says_nothing = type(cause) in (asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied)
            if not alone and says_nothing and not isinstance(error, ObjectRefused):
                raise PerhapsTooMany(
                    f"{where}: the server lets us open no further file ({named(cause or error)})", error
                ) from cause
            if folder not in self._opened and await _takes_plain_names(session, temporary):
                raise TargetRefused(
                    f"{where}: the server refuses names that begin with a dot, such as those of unfinished files: set "
                    "`sftp_upload: direct` (a reader may then see a file that is still being written)"
                ) from error
            raise
        self._opened.add(folder)
        return file

    async def _directly(
        self, session: SftpSession, where: str, path: str, content: Content, *, replace: bool, alone: bool
    ) -> Attributes:
        # Some servers open a file that is there although it must not be, such as ProFTPD with HiddenStores.
        if not replace and not session.is_openssh and await session.exists(path):
            raise ObjectExists(f"{where} is there already")
        opening = asyncio.ensure_future(open_file(session, path, WRITING if replace else CREATING, content, where))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            await _undone(session, opening, path)
            raise
        except DataExportError as error:
            if not replace and await session.exists(path):
                raise ObjectExists(f"{where} is there already") from error
            if isinstance(error, AccessDenied) and not await takes_colons(session, path):
                raise name_refused(where) from error
            if replace and isinstance(error, AccessDenied) and await session.exists(path):
                raise overwrite_refused(where) from error
            if isinstance(error, TargetUnavailable) and not alone:
                raise perhaps_too_many(error) from error.__cause__
            raise
        try:
            return await store(session, file, path, content, verify=self._verify, where=where, final=path)
        except BaseException:
            await session.remove_quietly(path)  # rather none than a part of one
            raise


async def _undone(session: SftpSession, opening: "asyncio.Future[bytes]", path: str) -> None:
    """Removes what was opened for a writer that is cancelled: an empty file is one that somebody may read."""
    import asyncssh

    with suppress(asyncssh.Error, OSError, DataExportError):
        async with asyncio.timeout(_UNDONE_SECONDS):
            handle = await opening
            try:
                await session.client.close(handle)  # first: some servers show the file, or let it be removed, only then
            finally:
                await session.remove_quietly(path)


async def _takes_plain_names(session: SftpSession, temporary: str) -> bool:
    folder, slash, name = temporary.rpartition("/")
    plain = f"{folder}{slash}{name.lstrip('.')}"
    try:
        return await session.create(plain)
    finally:
        await session.remove_quietly(plain)
