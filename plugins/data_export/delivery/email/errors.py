"""What a mail server's refusals mean, without its words: they may hold the address, which logs must not."""

import re
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from data_export.errors import AccessDenied, DataExportError, PermanentError, RecipientsRefused, TargetUnavailable
from data_export.wording import harmless

# "5.1.1" of "5.1.1 <somebody@customer.example>: no such mailbox".
_ENHANCED_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")
_CLOSES = 421
_TOO_BIG = "5.3.4"
_FULL = "5.2.2"


class NotOverThisConnection(TargetUnavailable):
    """The mail was surely not taken, and a new connection may take it: some servers take a few mails over each."""


def masked(address: str) -> str:
    """`b***@customer.example`: enough for who knows the customer file, not for who reads logs."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"


@contextmanager
def explained_connection() -> Iterator[None]:
    """Around what connects and logs in.

    Raises:
        AccessDenied: the login is refused.
        PermanentError: the server takes no connection from here, has not what ours asks for, or is not trusted.
        TargetUnavailable: it is not reached.
    """
    try:
        yield
    except DataExportError:  # some are OSErrors too
        raise
    except smtplib.SMTPAuthenticationError as error:
        if _is_permanent(error.smtp_code):
            raise AccessDenied(f"the mail server refuses the login ({_code(error)}): {_login_fix(error)}") from None
        raise TargetUnavailable(f"the mail server cannot check the login now ({_code(error)})") from None
    except smtplib.SMTPResponseException as error:
        _raise_greeting(error)
    except smtplib.SMTPNotSupportedError as error:
        raise PermanentError(
            f"the mail server does not offer what the SMTP connection asks for ({error}): correct disable_tls, "
            "disable_ssl or the login in its extra"
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise PermanentError(
            f"the mail server's certificate is not trusted ({error.verify_message}): correct the host, or add "
            "its authority to the file of all authorities that SSL_CERT_FILE names on the workers"
        ) from None
    except ssl.SSLError as error:
        if error.reason != "WRONG_VERSION_NUMBER":
            raise TargetUnavailable(f"the mail server breaks off TLS: {_reason(error)}") from None
        raise PermanentError(
            "the mail server does not begin with TLS at this port: set disable_ssl in the SMTP connection's extra for "
            "STARTTLS, or correct the port"
        ) from None
    except OSError as error:  # smtplib's own errors are among them
        raise TargetUnavailable(f"the mail server is not reached: {_reason(error)}") from None


def _login_fix(error: smtplib.SMTPAuthenticationError) -> str:
    if error.smtp_code == 538:
        return "it wants TLS first: remove disable_tls from the SMTP connection's extra"
    if error.smtp_code == 534:
        return "it wants another kind of login, such as an app password or OAuth 2 (auth_type in the extra)"
    return "correct user and password of the SMTP connection"


def _raise_greeting(error: smtplib.SMTPResponseException) -> NoReturn:
    """Before any mail: the server's first line, or its answer to our name."""
    named = isinstance(error, smtplib.SMTPHeloError)
    what = "does not take the name of this worker" if named else "takes no connection from this worker"
    fix = "give it a host name that resolves" if named else "have its administrator allow the worker's address"
    if _is_permanent(error.smtp_code):
        raise PermanentError(f"the mail server {what} ({_code(error)}): {fix}") from None
    raise TargetUnavailable(f"the mail server {what} now ({_code(error)})") from None


@contextmanager
def explained_mail(client: smtplib.SMTP, sender: str, recipient: str, listed_in: str) -> Iterator[None]:
    """Around one mail, or the question whether it would be taken."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()))
        _raise_recipient(smtplib.SMTPResponseException(code, words), recipient, listed_in)
    except smtplib.SMTPSenderRefused as error:
        _raise_sender(error, sender)
    except smtplib.SMTPHeloError as error:
        _raise_greeting(error)
    except smtplib.SMTPResponseException as error:
        said = _code(error)
        if error.smtp_code == 552 or _TOO_BIG in said:
            raise PermanentError(_too_big(said)) from None
        kind = PermanentError if _is_permanent(error.smtp_code) else _kind(error)
        raise kind(f"the mail server refuses the mail for {masked(recipient)} ({said})") from None
    except smtplib.SMTPNotSupportedError:
        raise PermanentError(
            f"the mail server does not take addresses outside ASCII (SMTPUTF8), such as {masked(recipient)} or "
            f"{harmless(sender)}: write them in ASCII"
        ) from None
    except OSError as error:
        client.close()
        raise TargetUnavailable(f"the mail server was lost while it took a mail: {_reason(error)}") from None


def _raise_recipient(error: smtplib.SMTPResponseException, recipient: str, listed_in: str) -> NoReturn:
    said, who = _code(error), masked(recipient)
    if not _is_permanent(error.smtp_code):
        raise _kind(error)(f"the mail server does not take mail for {who} now ({said})") from None
    fix = f"correct {listed_in}"
    if _FULL in said:
        fix = "the mailbox is full"
    elif " 5.7." in said or error.smtp_code == 530:
        fix = f"let it relay for this worker's login and address, or {fix}"
    raise RecipientsRefused(f"the mail server refuses recipient {who} ({said}): {fix}") from None


def _raise_sender(error: smtplib.SMTPSenderRefused, sender: str) -> NoReturn:
    said = _code(error)
    if not _is_permanent(error.smtp_code):
        raise NotOverThisConnection(f"the mail server does not take our mail now ({said})") from None
    if error.smtp_code == 552 or _TOO_BIG in said:
        raise PermanentError(_too_big(said)) from None
    if error.smtp_code in (530, 538):
        raise AccessDenied(
            f"the mail server wants a login or TLS before any mail ({said}): set user and password of the SMTP "
            "connection, and remove disable_tls from its extra"
        ) from None
    raise PermanentError(
        f"the mail server refuses sender {harmless(sender)} ({said}): correct mail.from in platform.yaml"
    ) from None


def _too_big(said: str) -> str:
    return f"the mail is larger than the mail server takes ({said}): have its limit raised"


def _kind(error: smtplib.SMTPResponseException) -> type[TargetUnavailable]:
    return NotOverThisConnection if error.smtp_code == _CLOSES else TargetUnavailable


def _is_permanent(code: int) -> bool:
    return 500 <= code < 600


def _code(error: smtplib.SMTPResponseException) -> str:
    words = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
    enhanced = _ENHANCED_CODE.match(words)
    return f"{error.smtp_code} {enhanced[0]}" if enhanced else str(error.smtp_code)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
