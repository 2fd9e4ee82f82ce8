"""Every error the service raises on purpose, in one tree.

    DataExportError
    ├── PermanentError              a retry cannot help: the message says what to change and where
    │   ├── ConfigError             (ValueError)          a customer file or platform setting is wrong
    │   ├── LimitExceeded           (ValueError)          a window breaks a limit of platform or customer
    │   ├── SourceRejected                                the source refuses us, or lacks a table or column
    │   │   └── ValueRejected                             it cannot read or convert one of its own values
    │   ├── InvalidRecord           (ValueError)          a source row that the delivered format cannot express
    │   ├── AccessDenied            (PermissionError)     credentials, key or permission refused
    │   │   ├── HostKeyMismatch                           an SFTP server is not the one that was pinned
    │   │   ├── CredentialsRefused                        login, key or token refused: nothing at all will work
    │   │   └── OverwriteRefused                          may create, may not replace
    │   ├── TargetNotFound          (FileNotFoundError)   bucket or folder does not exist
    │   ├── RecipientsRefused                             the mail server will not take mail for some recipients
    │   ├── TargetRefused                                 the target will not take this name or this operation
    │   │   └── ObjectRefused                             this one object cannot be read or stored; others can
    │   ├── SignatureRejected                             a plan or result is not what this run signed
    │   ├── StagedFileGone                                what an earlier task of the run staged was cleaned since
    │   └── CheckFailed                                   a check found what would make an export fail
    ├── TransientError              a retry may help: network, 429, 5xx, stalled or full server
    │   ├── TargetUnavailable       (ConnectionError)
    │   ├── SourceUnavailable       (ConnectionError)
    │   ├── CredentialsUnavailable  (ConnectionError)     what holds connections, secrets or a machine's credentials
    │   ├── TargetFull              (OSError)             disk or quota; somebody may make room before the last try
    │   └── VerificationFailed                            the target confirms a different size or checksum than was sent
    └── ObjectExists                (FileExistsError)     a create-only write found one; callers decide what it means

Messages are one line, in which nothing is invisible: the thing, its value, the fix. They never contain a secret, so
they may go to logs and mail.
Dual inheritance lets callers that know only the builtin class catch them.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from data_export.wording import harmless

_LONGEST = 8000


class DataExportError(Exception):
    """Base of every error that the service raises on purpose; whatever it quotes, `str()` is one harmless line."""

    def __str__(self) -> str:
        return harmless(super().__str__(), _LONGEST)


class PermanentError(DataExportError):
    """A retry cannot help; the message says what to change and where."""


class ConfigError(PermanentError, ValueError):
    """A customer file or platform setting is wrong."""


class LimitExceeded(PermanentError, ValueError):
    """A window breaks a limit (`limits` in platform.yaml or in the customer file)."""


class SourceRejected(PermanentError):
    """The source refuses the login or a query (missing table, column or right)."""


class ValueRejected(SourceRejected):
    """The source cannot read or convert a value that a query asks for, or code of its own refuses a row.

    `reason` is what it said, without the place, and `sqlstate` its code.
    """

    def __init__(self, message: str, reason: str = "", sqlstate: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.sqlstate = sqlstate


class InvalidRecord(PermanentError, ValueError):
    """A source row that the delivered format cannot express."""


class AccessDenied(PermanentError, PermissionError):
    """Credentials, key or permission refused by a server."""


class HostKeyMismatch(AccessDenied):
    """An SFTP server presents a different host key than the pinned one."""


class CredentialsRefused(AccessDenied):
    """A server refuses the login, key or token itself, so that no other request would pass either."""


class OverwriteRefused(AccessDenied):
    """The target lets us create objects but not replace them."""


class TargetNotFound(PermanentError, FileNotFoundError):
    """A bucket or folder of the target does not exist and may not be created."""


class TargetRefused(PermanentError):
    """The target refuses this name or operation, whatever the credentials."""


class ObjectRefused(TargetRefused):
    """This one object cannot be read or stored (archived, too large, unreadable); it says nothing of others."""


class RecipientsRefused(PermanentError):
    """The mail server permanently refuses some recipients; the others have their mail."""


class SignatureRejected(PermanentError):
    """What an earlier task of the run handed on was changed since, or belongs to another run."""


class StagedFileGone(PermanentError):
    """A staged file of this run is gone."""


class CheckFailed(PermanentError):
    """A check found something that would make an export fail."""


class TransientError(DataExportError):
    """A retry may help."""

    #: Seconds for which the server asks not to be asked again.
    wait = 0.0


class TargetUnavailable(TransientError, ConnectionError):
    """Network fault, throttling, 5xx or a stalled answer of a target."""


class SourceUnavailable(TransientError, ConnectionError):
    """Network fault or restart of the source database."""


class CredentialsUnavailable(TransientError, ConnectionError):
    """What holds connections, secrets or the credentials of a machine does not answer, so nobody knows what it has."""


class TargetFull(TransientError, OSError):
    """The target's disk or quota is full."""


class VerificationFailed(TransientError):
    """The target confirms a different size or checksum than was sent."""


class ObjectExists(DataExportError, FileExistsError):
    """A create-only write found an object of that name."""


def line_of(error: DataExportError) -> str:
    """The error's line, fit to store and mail: at most 2,000 characters."""
    return harmless(error, 2000)


@contextmanager
def os_errors_of(name: str) -> Iterator[None]:
    """Turns what the operating system says into errors of the service that name the file and the fix."""
    try:
        yield
    except DataExportError:
        raise
    except FileNotFoundError:
        raise TargetNotFound(f"{name}: no such file") from None
    except PermissionError:
        raise AccessDenied(f"{name}: the user of this process may not read or write here: change its rights") from None
    except (NotADirectoryError, IsADirectoryError, FileExistsError):
        raise TargetRefused(f"{name}: a file is in the place of a folder, or a folder of a file: remove it") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TargetFull(f"{name}: {os.strerror(error.errno)}: make room") from None
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EROFS):
            raise TargetRefused(f"{name}: {os.strerror(error.errno)}") from None
        raise TargetUnavailable(f"{name}: {error.strerror or error}") from None
