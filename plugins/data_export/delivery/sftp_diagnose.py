"""Asks an SFTP server why a write failed, where its answer does not say."""

from data_export.delivery.sftp_errors import is_lost, translate
from data_export.delivery.sftp_session import SftpSession
from data_export.errors import DataExportError

_READ_ONLY = 1  # SSH_FXE_STATVFS_ST_RDONLY


async def diagnose(session: SftpSession, error: Exception, where: str, folder: str, needed: int) -> Exception:
    """As `translate`, for a write that failed: asks the file system about room and rights where the code says nothing.

    A lost connection comes back as it is: whoever holds the connection must see it.

    Args:
        needed: bytes that were to be written.
    """
    import asyncssh

    if is_lost(error):
        return error
    full = None
    if type(error) in (asyncssh.SFTPFailure, asyncssh.SFTPError):
        full = await room_error(session, where, folder, needed)
    return full or translate(error, where, session.user)


async def room_error(session: SftpSession, where: str, folder: str, needed: int) -> DataExportError | None:
    """Why nothing more can be written to the folder's file system, or None where it has room or does not tell."""
    import asyncssh

    try:
        system: asyncssh.SFTPVFSAttrs = await session.ask(session.client.statvfs(folder))
    except (asyncssh.Error, OSError):
        return None
    if system.flags & _READ_ONLY:
        return translate(asyncssh.SFTPWriteProtect("read-only file system"), where, session.user)
    if system.bavail * system.frsize < needed or (system.files and not system.favail):
        return translate(asyncssh.SFTPNoSpaceOnFilesystem("no space"), where, session.user)
    return None
