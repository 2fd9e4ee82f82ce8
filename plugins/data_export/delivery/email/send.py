"""Mails a temporary link to a data file, once to each recipient."""

import hashlib
import logging
import re
import smtplib
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from data_export.delivery.email.message import message, render
from data_export.errors import AccessDenied, DataExportError, PermanentError, RecipientsRefused, TargetUnavailable
from data_export.receipt import Receipt
from data_export.wording import size_in_words

_TEMPLATES = Path(__file__).with_name("templates")
# "5.1.1" of "5.1.1 <somebody@customer.example>: no such mailbox": the words may hold the address, which logs must not.
_ENHANCED_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")
CUSTOMER_LIST = "`emails` in the customer file"
_log = logging.getLogger(__name__)


def compose(
    receipt: Receipt, link: str, expires_at: datetime, sender: str, recipients: Sequence[str]
) -> list[EmailMessage]:
    """One mail for each recipient, who sees no other, in text and HTML; times are UTC.

    The Message-ID says what is offered to whom (export, window, content, the link without its signature, recipient): a
    mail composed again for the same run has the same one, so mailboxes recognise it.

    Args:
        expires_at: when the link stops working; aware.
    """
    values = _values(receipt, link, expires_at)
    text, html = (render(_TEMPLATES / name, values, size=size_in_words) for name in ("link.txt", "link.html"))
    return [
        message(str(values["subject"]), sender, recipient, _message_id(receipt, link, recipient), text, html)
        for recipient in recipients
    ]


def send(
    messages: Sequence[EmailMessage],
    connect: Callable[[], smtplib.SMTP],
    on_sent: Callable[[str], None] = lambda _message_id: None,
    listed_in: str = CUSTOMER_LIST,
) -> None:
    """Sends each message over one connection, and records it as soon as it is accepted.

    A refused recipient does not keep the others from their mail. Neither links nor addresses are logged or put into
    errors; a refused recipient is shown as `b***@customer.example`.

    Args:
        connect: makes a client that is logged in; it is closed here.
        on_sent: called with the Message-ID of each mail that the server has accepted.
        listed_in: where a person corrects a refused recipient.

    Raises:
        AccessDenied: the login is refused.
        RecipientsRefused: the server refuses some for good, and the others have their mail.
        PermanentError: sender or mail refused, or the server's certificate is not trusted.
        TargetUnavailable: network fault or a temporary refusal; what was accepted is recorded.
    """
    client = connected(connect)
    refused: list[DataExportError] = []
    try:
        for mail in messages:
            try:
                _send_one(client, mail, listed_in)
            except DataExportError as error:
                refused.append(error)
                if client.sock is None:  # smtplib has hung up: there is nobody to give the others to
                    break
            else:
                on_sent(mail["Message-ID"])
    finally:
        with suppress(OSError):
            client.quit()
        client.close()
    _log.info("sent %d of %d mails", len(messages) - len(refused), len(messages))
    if refused:
        _raise(refused)


def masked(address: str) -> str:
    """`b***@customer.example`: enough for who knows the customer file, not for who reads logs."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"


def _raise(errors: list[DataExportError]) -> NoReturn:
    """One error for all; a temporary one comes first, because another try may still reach its recipient."""
    text = "; ".join(map(str, errors))
    if any(isinstance(error, TargetUnavailable) for error in errors):
        raise TargetUnavailable(text)
    only_recipients = all(isinstance(error, RecipientsRefused) for error in errors)
    raise (RecipientsRefused if only_recipients else PermanentError)(text)


def _values(receipt: Receipt, link: str, expires_at: datetime) -> dict[str, object]:
    window, totals = receipt.export_window, receipt.totals()
    start, end = (f"{moment:%Y-%m-%d %H:%M:%S} UTC" for moment in (window.start, window.end))
    return {
        "subject": f"Data export {receipt.export}: {window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC",
        "receipt": receipt,
        "link": link,
        "until": f"{expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        "start": start,
        "end": end,
        "work_orders": totals["work_orders"],
        "quarantined": totals["quarantined"],
        "size": size_in_words(totals["bytes"]),
    }


def _message_id(receipt: Receipt, link: str, recipient: str) -> str:
    offered = urlsplit(link)
    parts = [
        receipt.export,
        receipt.export_type,
        str(receipt.export_window),
        *(f"{site.site_id} {site.sha256}" for site in receipt.sites),
        f"{offered.netloc}{offered.path}",
        recipient.lower(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def connected(connect: Callable[[], smtplib.SMTP]) -> smtplib.SMTP:
    """A client that is logged in.

    Raises:
        AccessDenied: the login is refused.
        PermanentError: the connection asks for what the server has not, or its certificate is not trusted.
        TargetUnavailable: it is not reached.
    """
    try:
        return connect()
    except DataExportError:  # some are OSErrors too
        raise
    except smtplib.SMTPAuthenticationError as error:
        if _is_permanent(error.smtp_code):
            raise AccessDenied(
                f"the mail server refuses the login ({_code(error)}): correct user and password of the SMTP connection"
            ) from None
        raise TargetUnavailable(f"the mail server cannot check the login now ({_code(error)})") from None
    except smtplib.SMTPNotSupportedError as error:
        raise PermanentError(
            f"the mail server does not offer what the SMTP connection asks for ({error}): correct disable_tls, "
            "disable_ssl or the login in its extra"
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise PermanentError(
            f"the mail server's certificate is not trusted ({error.verify_message}): correct the host, or make the "
            "workers trust its issuer"
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


def offer_recipient(client: smtplib.SMTP, sender: str, recipient: str, listed_in: str) -> None:
    """Asks the server whether it would take a mail, and takes the question back.

    Raises:
        PermanentError: sender or recipient refused.
        TargetUnavailable: a temporary refusal, or the server is lost.
    """
    with _told(client, sender, recipient, listed_in):
        client.ehlo_or_helo_if_needed()
        code, words = client.mail(sender)
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, words, sender)
        code, words = client.rcpt(recipient)
        client.rset()
        if code not in (250, 251):
            raise smtplib.SMTPRecipientsRefused({recipient: (code, words)})


def _send_one(client: smtplib.SMTP, mail: EmailMessage, listed_in: str) -> None:
    with _told(client, mail["From"], mail["To"], listed_in):
        client.send_message(mail)


@contextmanager
def _told(client: smtplib.SMTP, sender: str, recipient: str, listed_in: str) -> Iterator[None]:
    """Refusals as errors of the service, without the server's words, which may hold the address."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()))
        said = _code(smtplib.SMTPResponseException(code, words))
        if _is_permanent(code):
            raise RecipientsRefused(
                f"the mail server refuses recipient {masked(recipient)} ({said}): correct {listed_in}"
            ) from None
        raise TargetUnavailable(f"the mail server does not take mail for {masked(recipient)} now ({said})") from None
    except smtplib.SMTPSenderRefused as error:
        if _is_permanent(error.smtp_code):
            raise PermanentError(
                f"the mail server refuses sender {sender} ({_code(error)}): correct mail.from in platform.yaml"
            ) from None
        raise TargetUnavailable(f"the mail server does not take our mail now ({_code(error)})") from None
    except smtplib.SMTPResponseException as error:
        kind = PermanentError if _is_permanent(error.smtp_code) else TargetUnavailable
        raise kind(f"the mail server refuses the mail for {masked(recipient)} ({_code(error)})") from None
    except OSError as error:
        client.close()
        raise TargetUnavailable(f"the mail server was lost while it took a mail: {_reason(error)}") from None


def _is_permanent(code: int) -> bool:
    return 500 <= code < 600


def _code(error: smtplib.SMTPResponseException) -> str:
    words = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
    enhanced = _ENHANCED_CODE.match(words)
    return f"{error.smtp_code} {enhanced[0]}" if enhanced else str(error.smtp_code)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
