"""Gives a finished file its name on an SFTP server."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from data_export.delivery.sftp.errors import is_lost, name_refused
from data_export.delivery.sftp.leftovers import LeftOver, aside_path, claim_path, takes_colons, temporary_path, why_gone
from data_export.delivery.sftp.sessions.session import SftpSession
from data_export.delivery.sftp.wire.packets import READING
from data_export.errors import ObjectExists, OverwriteRefused, TargetRefused, TargetUnavailable

if TYPE_CHECKING:
    import asyncssh

# Each further turn means that another writer of the same object got on.
_TURNS = 5
# A claim is held for two requests; one that lies there longer was left by a killed run.
_LOOKS = 50
_LOOK_PAUSE = 0.2
# Longer than a server needs between letting two creators of one file in and knowing of both.
_CLAIM_PAUSE = 0.1
_log = logging.getLogger(__name__)


class Claims:
    """Keeps two runs from the same new name on servers whose rename takes the place of a file, against the protocol.

    Whether the server is one of those is found out at the first new file, by renaming one file of ours onto another.
    There, whoever is to give a name first creates a file next to it that must not exist. It is a weaker promise than a
    rename that refuses: it binds this service only, and a claim that a killed run left holds others up for a while.
    """

    def __init__(self) -> None:
        self._needed: bool | None = None
        self._asking = asyncio.Lock()

    @asynccontextmanager
    async def held(self, session: SftpSession, path: str, where: str) -> AsyncIterator[None]:
        """
        Raises:
            TargetUnavailable: another run holds the name.
        """
        if session.is_openssh or not await self._are_needed(session, path):
            yield
            return
        claim = claim_path(path)
        for look in range(_LOOKS):
            if await _is_ours(session, claim):
                break
            await asyncio.sleep(_LOOK_PAUSE)
            if look == _LOOKS - 2:  # nobody needs that long for two requests
                await session.remove_quietly(claim)
        else:
            raise TargetUnavailable(f"{where}: another run is giving the file its name: try again")
        try:
            yield
        finally:
            await session.remove_quietly(claim)

    async def _are_needed(self, session: SftpSession, path: str) -> bool:
        async with self._asking:
            if self._needed is None:
                self._needed = await _takes_place(session, path, session.client.rename)
                if self._needed:
                    _log.warning("the SFTP server's rename takes the place of files: new names are claimed first")
        return self._needed


async def _takes_place(session: SftpSession, path: str, rename: Callable[[str, str], Awaitable[None]]) -> bool:
    """Whether that rename gives one file of ours the name of another."""
    import asyncssh

    one, other = temporary_path(path), temporary_path(path)
    try:
        if not (await session.create(one) and await session.create(other)):
            return False
        await rename(one, other)
    except asyncssh.SFTPError as error:
        if is_lost(error):
            raise
        return False
    finally:
        await session.remove_quietly(one)
        await session.remove_quietly(other)
    return True


async def ways_to_rename(session: SftpSession, path: str) -> str:
    """What the server makes of a name that is taken, in words; tried with files of ours next to `path`."""
    new = (
        "a rename takes the place of a file, against the protocol: exports claim each new name first, which binds our "
        "own runs only, so no other program may write the same names"
        if await _takes_place(session, path, session.client.rename)
        else "a rename never takes the place of a file, so of two runs at once one gets a new name"
    )
    at_once = await _takes_place(session, path, session.client.posix_rename)
    return f"{new}; {'a file is replaced at once' if at_once else 'while a file is replaced its name is free a moment'}"


async def _is_ours(session: SftpSession, claim: str) -> bool:
    """Whether the claim was not there, and now is with our mark.

    rclone's server lets two in who create one file at the same moment: the one that closes it last has claimed it.
    """
    import asyncssh

    client, mark = session.client, secrets.token_hex(16).encode()
    try:
        if not await session.create(claim, mark):
            return False
        await asyncio.sleep(_CLAIM_PAUSE)
        handle = await client.open(claim, READING)
        try:
            return await client.read(handle, 0, 2 * len(mark)) == mark
        finally:
            await client.close(handle)
    except asyncio.CancelledError:
        await session.remove_quietly(claim)
        raise
    except asyncssh.SFTPError as error:
        if is_lost(error):
            raise
        return False


async def place_new(session: SftpSession, temporary: str, path: str, where: str, claims: Claims) -> None:
    """Renames; SFTP's own rename never takes the place of a file (OpenSSH links and unlinks), so one of two wins.

    Some servers' rename does replace, against the protocol: for those that are not OpenSSH there is a look just before
    it, and the claim, see `Claims`.

    Raises:
        ObjectExists: another file has the name.
        DataExportError: see `_why`.
    """
    import asyncssh

    taken = ObjectExists(f"{where} is there already")
    async with claims.held(session, path, where):
        if not session.is_openssh and await session.exists(path):
            raise taken
        try:
            await session.client.rename(temporary, path)
        except asyncssh.SFTPError as error:
            raise await _why(session, error, temporary, path, where, taken) from error


async def place_over(
    session: SftpSession, temporary: str, path: str, where: str, left_over: LeftOver, claims: Claims
) -> None:
    """Renames, atomically taking the place of a file (`posix-rename@openssh.com`).

    On a server without that extension the old file is moved aside, the new one given its name, and the old one removed:
    for a moment a reader finds no file, but never a part of one. Where the new one does not get the name, the old one
    has it back, unless another run has placed a file meanwhile.

    Raises:
        OverwriteRefused: the old file may not be replaced.
        DataExportError: see `_why`.
    """
    import asyncssh

    try:
        return await session.client.posix_rename(temporary, path)
    except asyncssh.SFTPOpUnsupported:
        pass
    except asyncssh.SFTPError as error:
        raise await _why(session, error, temporary, path, where, overwrite_refused(where)) from error
    for _ in range(_TURNS):
        with suppress(ObjectExists, TargetUnavailable):
            return await place_new(session, temporary, path, where, claims)
        with suppress(ObjectExists, TargetUnavailable):  # another run took the name that we made free, or is about to
            return await _swap(session, temporary, path, where, left_over, claims)
    raise TargetUnavailable(
        f"{where}: other runs replace it at the same time, or the server does not give our file its name: try again"
    )


async def _swap(
    session: SftpSession, temporary: str, path: str, where: str, left_over: LeftOver, claims: Claims
) -> None:
    import asyncssh

    aside = aside_path(path)
    try:
        try:
            await session.client.rename(path, aside)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            pass  # another run moved it aside
        except asyncssh.SFTPError as error:
            if is_lost(error):
                raise
            if await session.exists(path):
                raise overwrite_refused(where) from error
        await place_new(session, temporary, path, where, claims)
    except BaseException:  # also when cancelled, and then the answer to either rename may not have been seen
        await _put_back(session, aside, path, left_over)
        raise
    await left_over.drop(session, aside)


async def _put_back(session: SftpSession, aside: str, path: str, left_over: LeftOver) -> None:
    import asyncssh

    with suppress(asyncssh.Error, OSError):  # on a broken connection; then it lies there until the next try
        if not await session.exists(path):
            with suppress(asyncssh.SFTPError):
                await session.client.rename(aside, path)
        if await session.exists(path):
            await left_over.drop(session, aside)


def overwrite_refused(where: str) -> OverwriteRefused:
    return OverwriteRefused(
        f"{where} exists with other content and the server does not let us replace it: give the user the right to "
        "rename and delete there, or set if_exists to keep or revision"
    )


async def _why(
    session: SftpSession, error: "asyncssh.SFTPError", temporary: str, path: str, where: str, taken: Exception
) -> Exception:
    """Why the finished file did not get its name.

    | finished file | at the final name | it means                                                                     |
    |---------------|-------------------|------------------------------------------------------------------------------|
    | gone          | a file            | another writer of the same object was quicker: `taken` to create, else again |
    | gone          | nothing           | see `why_gone`                                                               |
    | there         | a file            | `taken`                                                                      |
    | there         | a broken link     | TargetRefused: it looks free and is not                                      |
    | there         | nothing           | the server refuses every rename, this name, or just now                      |
    """
    import asyncssh

    if is_lost(error):
        return error
    is_there = await session.exists(path)
    if is_there and isinstance(taken, ObjectExists):
        return taken
    if not await session.exists(temporary):
        return await why_gone(session, path, where)
    if is_there:
        return taken
    if await session.is_link(path):
        return TargetRefused(f"{where} is a symbolic link to a file that is missing: remove the link, or repair it")
    if isinstance(error, asyncssh.SFTPPermissionDenied | asyncssh.SFTPOpUnsupported):
        if not await takes_colons(session, path):
            return name_refused(where)
        return TargetRefused(
            f"{where}: the server lets us write files but not rename them: give the user that right, or set "
            "`sftp_upload: direct` (a reader may then see a file that is still being written)"
        )
    if ":" in where.rpartition("/")[2] or not isinstance(error, asyncssh.SFTPFailure):
        return name_refused(where)
    return TargetUnavailable(f"{where}: the server does not give the finished file its name")
