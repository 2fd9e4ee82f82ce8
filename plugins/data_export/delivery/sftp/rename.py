"""Gives a finished file its name on an SFTP server."""

from contextlib import suppress
from typing import TYPE_CHECKING

from data_export.delivery.sftp.errors import is_lost, name_refused
from data_export.delivery.sftp.leftovers import LeftOver, aside_path
from data_export.delivery.sftp.session import SftpSession
from data_export.errors import ObjectExists, OverwriteRefused, TargetRefused, TargetUnavailable

if TYPE_CHECKING:
    import asyncssh

# Each further turn means that another writer of the same object got on.
_TURNS = 5


async def place_new(session: SftpSession, temporary: str, path: str, where: str) -> None:
    """Renames; SFTP's own rename never takes the place of a file (OpenSSH links and unlinks), so one of two wins.

    Some servers' rename does replace, against the protocol; hence the look just before it, where it is not OpenSSH.

    Raises:
        ObjectExists: another file has the name.
        DataExportError: see `_why`.
    """
    import asyncssh

    if not session.is_openssh and await session.exists(path):
        raise ObjectExists(f"{where} is there already")
    try:
        await session.ask(session.client.rename(temporary, path))
    except asyncssh.SFTPError as error:
        raise await _why(session, error, temporary, path, where, ObjectExists(f"{where} is there already")) from error


async def place_over(session: SftpSession, temporary: str, path: str, where: str, left_over: LeftOver) -> None:
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
        return await session.ask(session.client.posix_rename(temporary, path))
    except asyncssh.SFTPOpUnsupported:
        pass
    except asyncssh.SFTPError as error:
        raise await _why(session, error, temporary, path, where, overwrite_refused(where)) from error
    for _ in range(_TURNS):
        with suppress(ObjectExists, TargetUnavailable):
            return await place_new(session, temporary, path, where)
        with suppress(ObjectExists, TargetUnavailable):  # another run took the name that we made free, or is about to
            return await _swap(session, temporary, path, where, left_over)
    raise TargetUnavailable(
        f"{where}: other runs replace it at the same time, or the server does not give our file its name: try again"
    )


async def _swap(session: SftpSession, temporary: str, path: str, where: str, left_over: LeftOver) -> None:
    import asyncssh

    aside = aside_path(path)
    try:
        try:
            await session.ask(session.client.rename(path, aside))
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
            pass  # another run moved it aside
        except asyncssh.SFTPError as error:
            if not is_lost(error) and await session.exists(path):
                raise overwrite_refused(where) from error
            raise
        await place_new(session, temporary, path, where)
    except BaseException:  # also when cancelled, and then the answer to either rename may not have been seen
        await _put_back(session, aside, path, left_over)
        raise
    await left_over.drop(session, aside)


async def _put_back(session: SftpSession, aside: str, path: str, left_over: LeftOver) -> None:
    import asyncssh

    with suppress(asyncssh.Error, OSError):  # on a broken connection; then it lies there until the next try
        if not await session.exists(path):
            with suppress(asyncssh.SFTPError):
                await session.ask(session.client.rename(aside, path))
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
    | gone          | nothing           | another writer, or whoever removed the folder, removed it: try again         |
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
        return TargetUnavailable(f"{where}: another run, or the server, removed our unfinished file: try again")
    if is_there:
        return taken
    if await session.is_link(path):
        return TargetRefused(f"{where} is a symbolic link to a file that is missing: remove the link, or repair it")
    if isinstance(error, asyncssh.SFTPPermissionDenied | asyncssh.SFTPOpUnsupported):
        return TargetRefused(
            f"{where}: the server lets us write files but not rename them: give the user that right, or set "
            "`sftp_upload: direct` (a reader may then see a file that is still being written)"
        )
    if ":" in where.rpartition("/")[2] or not isinstance(error, asyncssh.SFTPFailure):
        return name_refused(where)
    return TargetUnavailable(f"{where}: the server does not give the finished file its name")
