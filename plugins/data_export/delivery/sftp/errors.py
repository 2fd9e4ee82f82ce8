"""What an SFTP server's answers mean, in the service's own errors."""

import os
import re

from data_export.delivery.sftp.wire.packets import BREACH, OUT_OF_STEP
from data_export.errors import (
    AccessDenied,
    DataExportError,
    ObjectRefused,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TargetUnavailable,
)
from data_export.wording import harmless

_REASON_CHARACTERS = 120
_LONGEST_WORDS = 500
# Version 3 has no code for a full disk, but servers other than OpenSSH say it in words.
_FULL = re.compile(
    r"no space|(not enough|insufficient)( \w+)? space|(disk|storage|volume) (is )?full|storage limit"
    r"|quota(?! of (open|file|handle|transfer|connection))",
    re.IGNORECASE,
)
# Limits of files or transfers at once come as "Failure" or even "Permission denied", with words only.
_TOO_MANY = re.compile(
    r"too many(?! (levels|symbolic|symlinks|links))"
    r"|(max(imum)?|limit|exceed)\w*\W.*(transfer|open|file handle|handles|session|concurrent|simultaneous)"
    r"|(transfer|open file|handle|session|concurrent|simultaneous)\w*\W.*(limit|exceed|maximum)"
    r"|\b(no|out of|unable)\b.*\bhandles?\b|(upload|transfer)s? (slot|at a time|at once)",
    re.IGNORECASE,
)
# A path from the top, also with spaces in it: up to a word that does not end one, if one soon after goes on with it.
_PATH = re.compile(r"(?<!\w)(?:~?/|[A-Za-z]:\\)\S*(?:(?<![:;,\"')])(?:\s+[^\s/\\]+){0,2}\s+[^\s/\\]+[/\\]\S*)?")
_RELATIVE = re.compile(r"\\|/.*/|/.*:$")
_LOOP = re.compile(r"levels of symbolic links|too many (symbolic |sym)?links|sym(bolic )?link loop", re.IGNORECASE)
_TOO_LARGE = re.compile(
    r"file (is )?too (large|big)|file size.*(limit|exceed)|size limit|exceeds? the max\w* file size", re.IGNORECASE
)
# What servers with a scanner or a filter say of one file, as "Failure" or "Permission denied".
_OF_ONE = re.compile(
    r"virus|malware|infected|file (type|extension)|extension not allowed|rejected by policy", re.IGNORECASE
)
_BUSY = re.compile(r"rate limit|\bbusy\b|try again|temporarily|being used by another process", re.IGNORECASE)


class TooManyAtOnce(TargetUnavailable):
    """The server has a limit of open files or transfers: fewer at once pass."""


class PerhapsTooMany(TooManyAtOnce):
    """A refusal with no reason, such as some servers give at a limit of open files: `meant` is what it is otherwise."""

    def __init__(self, message: str, meant: DataExportError) -> None:
        super().__init__(message)
        self.meant = meant


class ConnectionEnded(TargetUnavailable):
    """The connection ended while the server was at work, and with it all that was under way over it."""


def named(error: BaseException) -> str:
    """The reason on one short, harmless line; of the system's errors the words alone, without the address again."""
    text = str(getattr(error, "reason", "")) or str(error) or type(error).__name__
    if isinstance(error, OSError):  # asyncio joins those of several addresses into one text
        codes = dict.fromkeys(re.findall(r"\[Errno (\d+)\]", text))
        text = ", ".join(os.strerror(int(code)) for code in codes) or error.strerror or text
    return harmless(text, _REASON_CHARACTERS)


def unavailable(where: str, error: BaseException) -> TargetUnavailable:
    if getattr(error, "reason", "") == OUT_OF_STEP:
        return _breach(where, error)
    if isinstance(error, TimeoutError):
        return TargetUnavailable(f"{where} does not answer in time: is it up, and reachable from the workers?")
    return TargetUnavailable(f"{where}: {named(error)}: is it up, and reachable from the workers?")


def _breach(where: str, error: BaseException) -> TargetUnavailable:
    said = named(error)
    return TargetUnavailable(f"{where}: the server does not speak SFTP as it should ({said}): have it updated")


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, so that the next request needs a new one."""
    import asyncssh

    if isinstance(error, asyncssh.SFTPError):
        return isinstance(error, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection)
    return isinstance(error, asyncssh.Error | ConnectionError | TimeoutError | EOFError)


def is_too_many(error: BaseException) -> bool:
    """Whether the server says that so many files or transfers at once are more than it allows."""
    said = _words(error)
    return not is_lost(error) and not _FULL.search(said) and _TOO_MANY.search(said) is not None


def perhaps_too_many(error: TargetUnavailable) -> TargetUnavailable:
    """The error, or what else it may be where a server answered "Failure" and no more."""
    import asyncssh

    bare = type(error) is TargetUnavailable and type(error.__cause__) is asyncssh.SFTPFailure
    return PerhapsTooMany(str(error), error) if bare else error


def translate(error: BaseException, where: str, user: str) -> DataExportError:
    """The service's error for what went wrong with the object or folder `where`.

    SFTP version 3 knows few codes: a full disk, a quota, a refused name and a read-only file system may all be just
    "Failure", which `diagnose` looks into.
    """
    import asyncssh

    if is_lost(error):
        return ConnectionEnded(str(unavailable(where, error)))
    if isinstance(error, asyncssh.SFTPNoSuchFile | asyncssh.SFTPNoSuchPath | asyncssh.SFTPNotADirectory):
        return TargetNotFound(f"{where}: no such file or folder on the server")
    if getattr(error, "code", None) == BREACH:
        return _breach(where, error)
    if problem := _by_words(error, where, user):
        return problem
    if isinstance(error, asyncssh.SFTPPermissionDenied | asyncssh.SFTPCannotDelete):
        return AccessDenied(
            f"{where}: the server denies user {user!r} access ({named(error)}): ask for read and write rights there"
        )
    if isinstance(error, asyncssh.SFTPWriteProtect):
        return AccessDenied(f"{where}: the server's file system is read-only: ask its administrator to change that")
    if isinstance(error, asyncssh.SFTPBadMessage | asyncssh.SFTPInvalidFilename | asyncssh.SFTPInvalidParameter):
        return name_refused(where)
    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return TargetRefused(f"{where}: the server does not offer this operation ({named(error)})")
    return TargetUnavailable(f"{where}: the server answers {named(error)!r}")


def _words(error: BaseException) -> str:
    """What a server says, but for paths: a folder may be called "quota". The patterns take the square of its length."""
    words = _PATH.sub(" ", str(error)[:_LONGEST_WORDS]).split()
    return " ".join(word for word in words if not _RELATIVE.search(word))


def _by_words(error: BaseException, where: str, user: str) -> DataExportError | None:
    """What a server says in words, whatever its code."""
    import asyncssh

    said = _words(error)
    if _LOOP.search(said):
        return TargetRefused(f"{where}: a symbolic link on the way leads to itself ({named(error)}): remove it")
    if _OF_ONE.search(said):
        return ObjectRefused(f"{where} is refused by the server for what it is ({named(error)})")
    if _TOO_LARGE.search(said):
        return ObjectRefused(f"{where} is larger than the server takes ({named(error)}): have its limit raised")
    if is_too_many(error):
        return TooManyAtOnce(f"{where}: the server allows fewer files or transfers at once ({named(error)})")
    if isinstance(error, asyncssh.SFTPNoSpaceOnFilesystem | asyncssh.SFTPQuotaExceeded) or _FULL.search(said):
        return TargetFull(f"{where}: disk or quota of user {user!r} is full on the server: make room there")
    if _BUSY.search(said):
        return TargetUnavailable(f"{where}: the server answers {named(error)!r}")
    return None


def name_refused(where: str) -> ObjectRefused:
    hint = " (Windows servers refuse ':', which every data file's name has)" if ":" in where.rpartition("/")[2] else ""
    return ObjectRefused(f"{where}: the server refuses this name{hint}: ask for a server or folder that takes it")


def taken_away(where: str) -> ObjectRefused:
    return ObjectRefused(
        f"{where}: the server took the file away as soon as it was written, as drop boxes and virus scanners do: for a "
        "drop box set `sftp_upload: direct` and `verify: none`"
    )
