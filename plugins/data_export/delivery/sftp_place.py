"""Gives a finished file its name on an SFTP server."""

from typing import TYPE_CHECKING

from data_export.delivery.sftp_errors import is_lost, name_refused
from data_export.delivery.sftp_folders import temporary_path
from data_export.delivery.sftp_session import SftpSession
from data_export.delivery.sftp_upload import exists
from data_export.errors import DataExportError, ObjectExists, OverwriteRefused, TargetRefused, TargetUnavailable

if TYPE_CHECKING:
    import asyncssh


async def place_new(session: SftpSession, temporary: str, path: str, where: str) -> None:
    """Renames; SFTP's own rename never takes the place of a file (OpenSSH links and unlinks), so one of two wins.

    Some servers' rename does replace, against the protocol; hence the look just before it, where it is not OpenSSH.

    Raises:
        ObjectExists: another file has the name.
        TargetRefused: the server refuses the name or every rename.
        TargetUnavailable: another writer of the same object removed our file.
    """
    import asyncssh

    if not session.is_openssh and await exists(session, path):
        raise ObjectExists(f"{where} is there already")
    try:
        await session.ask(session.client.rename(temporary, path))
    except asyncssh.SFTPError as error:
        if is_lost(error):
            raise
        if await exists(session, path):
            raise ObjectExists(f"{where} is there already") from error
        raise await _rename_refused(session, error, temporary, where) from error


async def place_over(session: SftpSession, temporary: str, path: str, where: str) -> None:
    """Renames, atomically taking the place of a file (`posix-rename@openssh.com`).

    On a server without that extension the old file is moved aside, the new one given its name, and the old one removed:
    for a moment a reader finds no file, but never a part of one. If the second step fails the old file is put back.

    Raises:
        OverwriteRefused: the old file may not be replaced.
        TargetRefused, TargetUnavailable: as in `place_new`.
    """
    import asyncssh

    try:
        await session.ask(session.client.posix_rename(temporary, path))
    except asyncssh.SFTPOpUnsupported:
        await _move_aside_and_place(session, temporary, path, where)
    except asyncssh.SFTPError as error:
        if is_lost(error):
            raise
        if await exists(session, path) and await exists(session, temporary):
            raise overwrite_refused(where) from error
        raise await _rename_refused(session, error, temporary, where) from error


async def _move_aside_and_place(session: SftpSession, temporary: str, path: str, where: str) -> None:
    import asyncssh

    try:
        await place_new(session, temporary, path, where)
    except ObjectExists:
        aside = temporary_path(path)
        try:
            await session.ask(session.client.rename(path, aside))
        except asyncssh.SFTPError as error:
            if is_lost(error):
                raise
            raise overwrite_refused(where) from error
        try:
            await place_new(session, temporary, path, where)
        except DataExportError:
            await session.ask(session.client.rename(aside, path))
            raise
        await session.remove_quietly(aside)


def overwrite_refused(where: str) -> OverwriteRefused:
    return OverwriteRefused(
        f"{where} exists with other content and the server does not let us replace it: give the user the right to "
        "rename and delete there, or set if_exists to keep or revision"
    )


async def _rename_refused(
    session: SftpSession, error: "asyncssh.SFTPError", temporary: str, where: str
) -> DataExportError:
    import asyncssh

    if not await exists(session, temporary):
        return TargetUnavailable(
            f"{where}: another writer of the same object was quicker and removed our unfinished file"
        )
    if isinstance(error, asyncssh.SFTPPermissionDenied | asyncssh.SFTPOpUnsupported):
        return TargetRefused(
            f"{where}: the server lets us write files but not rename them: give the user that right, or set "
            "`sftp_upload: direct` (a reader may then see a file that is still being written)"
        )
    if ":" in where.rpartition("/")[2] or not isinstance(error, asyncssh.SFTPFailure):
        return name_refused(where)
    return TargetUnavailable(f"{where}: the server does not give the finished file its name")
