"""What an SFTP server's answers mean, in the service's own errors."""

import re

from data_export.errors import (
    AccessDenied,
    DataExportError,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
)

_REASON_CHARACTERS = 120
# Version 3 has no code for a full disk, but servers other than OpenSSH say it in words.
_FULL = re.compile(r"no space|disk full|quota", re.IGNORECASE)


def named(error: BaseException) -> str:
    """The reason on one short line; a server's own words are made printable first."""
    text = str(getattr(error, "reason", "")) or str(error) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:_REASON_CHARACTERS]


def unavailable(where: str, error: BaseException) -> TargetUnavailable:
    if isinstance(error, TimeoutError):
        return TargetUnavailable(f"{where} does not answer in time: is it up, and reachable from the workers?")
    return TargetUnavailable(f"{where}: {named(error)}: is it up, and reachable from the workers?")


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, so that the next request needs a new one."""
    import asyncssh

    if isinstance(error, asyncssh.SFTPError):
        return isinstance(error, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection)
    return isinstance(error, asyncssh.Error | ConnectionError | TimeoutError | EOFError)


def translate(error: BaseException, where: str, user: str) -> DataExportError:
    """The service's error for what went wrong with the object or folder `where`.

    SFTP version 3 knows few codes: a full disk, a quota, a refused name and a read-only file system may all be just
    "Failure", which `diagnose` looks into.
    """
    import asyncssh

    if is_lost(error):
        return unavailable(where, error)
    if isinstance(error, asyncssh.SFTPNoSuchFile | asyncssh.SFTPNoSuchPath | asyncssh.SFTPNotADirectory):
        return TargetNotFound(f"{where}: no such file or folder on the server")
    if isinstance(error, asyncssh.SFTPPermissionDenied | asyncssh.SFTPCannotDelete):
        return AccessDenied(f"{where}: the server denies user {user!r} access: ask for read and write rights there")
    if isinstance(error, asyncssh.SFTPWriteProtect):
        return AccessDenied(f"{where}: the server's file system is read-only: ask its administrator to change that")
    if isinstance(error, asyncssh.SFTPNoSpaceOnFilesystem | asyncssh.SFTPQuotaExceeded) or _FULL.search(str(error)):
        return TargetFull(f"{where}: disk or quota of user {user!r} is full on the server: make room there")
    if isinstance(error, asyncssh.SFTPBadMessage | asyncssh.SFTPInvalidFilename | asyncssh.SFTPInvalidParameter):
        return name_refused(where)
    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return TargetRefused(f"{where}: the server does not offer this operation ({named(error)})")
    return TargetUnavailable(f"{where}: the server answers {named(error)!r}")


def name_refused(where: str) -> TargetRefused:
    hint = " (Windows servers refuse ':', which every data file's name has)" if ":" in where.rpartition("/")[2] else ""
    return TargetRefused(f"{where}: the server refuses this name{hint}: ask for a server or folder that takes it")
