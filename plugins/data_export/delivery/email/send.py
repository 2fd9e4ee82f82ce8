"""Mails a temporary link to a data file, once to each recipient."""

import hashlib
import logging
import re
import smtplib
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from data_export.content import Digests
from data_export.delivery.email.errors import NotOverThisConnection, explained_connection, explained_mail
from data_export.delivery.email.message import Letterhead, message, render
from data_export.errors import DataExportError, PermanentError, TargetUnavailable
from data_export.receipt import Receipt
from data_export.wording import size_in_words

_TEMPLATES = Path(__file__).with_name("templates")
CUSTOMER_LIST = "`emails` in the customer file"
# Codes of an address or mailbox, RFC 3463.
_OF_ADDRESS = re.compile(r"\([45]\d\d [45]\.[12]\.")
_PLAIN = Letterhead()
_log = logging.getLogger(__name__)


class Offer(NamedTuple):
    """The one file that a mail leads to: its link, its format in words, its size and checksum."""

    link: str
    file_format: str
    digests: Digests


def compose(
    receipt: Receipt,
    offer: Offer,
    expires_at: datetime,
    sender: str,
    recipients: Sequence[str],
    head: Letterhead = _PLAIN,
) -> list[EmailMessage]:
    """One mail for each recipient, who sees no other, in text and HTML; times are in the customer's zone and in UTC.

    The Message-ID says what is offered to whom (export, window, content, the link without its signature, recipient): a
    mail composed again for the same run has the same one, so mailboxes recognise it.

    Args:
        expires_at: when the link stops working; aware.
    """
    values = _values(receipt, offer, expires_at, head)
    text, html = (render(_TEMPLATES / name, values) for name in ("link.txt", "link.html"))
    return [
        message(
            str(values["subject"]), sender, recipient, _message_id(receipt, offer, recipient), text, html, head.contact
        )
        for recipient in recipients
    ]


def send(
    messages: Sequence[EmailMessage],
    connect: Callable[[], smtplib.SMTP],
    on_sent: Callable[[str], None] = lambda _message_id: None,
    listed_in: str = CUSTOMER_LIST,
) -> None:
    """Sends each message, over as few connections as the server lets us, and records it as soon as it is accepted.

    A refused recipient does not keep the others from their mail, nor does a server that ends a connection after some.
    Neither links nor addresses are logged or put into errors; a refused recipient is shown as `b***@customer.example`.

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
    sending = _Sending(connect, listed_in)
    refused: list[DataExportError] = []
    try:
        for mail in messages:
            try:
                sending.send(mail)
            except DataExportError as error:
                refused.append(error)
                if not sending.reaches:
                    break
            else:
                on_sent(mail["Message-ID"])
    except BaseException:  # the time is over: not another word to a server that may be what took it
        sending.abandon()
        raise
    sending.close()
    _log.info("sent %d of %d mails", len(messages) - len(refused), len(messages))
    if refused:
        _raise(refused)


def _raise(errors: list[DataExportError]) -> NoReturn:
    """One error for all; a temporary one comes first, because another try may still reach its recipient."""
    text = "; ".join(map(str, errors))
    if any(isinstance(error, TargetUnavailable) for error in errors):
        raise TargetUnavailable(text)
    kinds = {type(error) for error in errors}
    raise (kinds.pop() if len(kinds) == 1 else PermanentError)(text)


def _values(receipt: Receipt, offer: Offer, expires_at: datetime, head: Letterhead) -> dict[str, object]:
    window, totals = receipt.export_window, receipt.totals()
    start, end = (f"{moment:%Y-%m-%d %H:%M:%S} UTC" for moment in (window.start, window.end))
    return {
        "subject": f"{head.platform or 'Data'} export {receipt.export}: {head.window(window)}",
        "head": head,
        "receipt": receipt,
        "link": offer.link,
        "file_format": offer.file_format,
        "sha256": offer.digests.sha256,
        "size": size_in_words(offer.digests.size),
        "until": head.moment(expires_at.replace(second=0)),
        "local": "" if head.timezone == "UTC" else head.window(window),
        "start": start,
        "end": end,
        "work_orders": totals["work_orders"],
        "quarantined": totals["quarantined"],
    }


def _message_id(receipt: Receipt, offer: Offer, recipient: str) -> str:
    link = urlsplit(offer.link)
    parts = [
        receipt.export,
        receipt.export_type,
        str(receipt.export_window),
        *(f"{site.site_id} {site.sha256}" for site in receipt.sites),
        f"{link.netloc}{link.path}",
        recipient.lower(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def connected(connect: Callable[[], smtplib.SMTP]) -> smtplib.SMTP:
    """A client that is logged in; raises as `explained_connection` does."""
    with explained_connection():
        return connect()


def greet(client: smtplib.SMTP) -> None:
    """EHLO, or HELO for old servers; by our address where our name is none that the server takes.

    Raises:
        smtplib.SMTPHeloError: it takes neither.
    """
    try:
        client.ehlo_or_helo_if_needed()
    except smtplib.SMTPHeloError:
        if client.sock is None:
            raise
        address = str(client.sock.getsockname()[0])
        client.local_hostname = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
        if not 200 <= client.ehlo()[0] <= 299:
            code, words = client.helo()
            if not 200 <= code <= 299:
                raise smtplib.SMTPHeloError(code, words) from None


class _Sending:
    """A connection to the mail server, made anew where the server ends it."""

    def __init__(self, connect: Callable[[], smtplib.SMTP], listed_in: str) -> None:
        self._connect, self._listed_in = connect, listed_in
        self._client = connected(connect)
        self._taken = 0
        #: Whether there is a server to give other mails to.
        self.reaches = True

    def send(self, mail: EmailMessage) -> None:
        """
        Raises:
            DataExportError: the mail is not taken; or it may have been, where the answer was lost.
        """
        if self._taken and not self._is_alive():
            self._anew()
        try:
            self._send(mail)
        except DataExportError as error:
            if isinstance(error, NotOverThisConnection) and not self._taken:
                self.reaches = self._client.sock is not None
            if not self._may_be_of_connection(error):
                raise
            self._anew()
            self._send(mail)

    def _may_be_of_connection(self, error: DataExportError) -> bool:
        """Whether the mail was surely not taken, and rather for the number of mails that this connection had.

        Servers say so at any step and with any code, a few of them with one for good.
        """
        answered = self._client.sock is not None and not _OF_ADDRESS.search(str(error))
        return self._taken > 0 and (answered or isinstance(error, NotOverThisConnection))

    def _send(self, mail: EmailMessage) -> None:
        try:
            with explained_mail(self._client, mail["From"], mail["To"], self._listed_in):
                greet(self._client)
                self._client.send_message(mail)
        except TargetUnavailable:
            if self._client.sock is None and self._taken == 0:
                self.reaches = False  # it hung up on the first mail of a connection: it would on the next
            raise
        self._taken += 1

    def _is_alive(self) -> bool:
        try:
            return self._client.sock is not None and self._client.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False

    def _anew(self) -> None:
        self.close()
        self._taken = 0
        self.reaches = False
        self._client = connected(self._connect)
        self.reaches = True

    def close(self) -> None:
        with suppress(OSError):
            self._client.quit()
        self.abandon()

    def abandon(self) -> None:
        """Closes without a word, and so without waiting for an answer."""
        self._client.close()


def offer_recipient(client: smtplib.SMTP, sender: str, recipient: str, listed_in: str) -> None:
    """Asks the server whether it would take a mail, and takes the question back.

    Raises:
        PermanentError: sender or recipient refused.
        TargetUnavailable: a temporary refusal, or the server is lost.
    """
    with explained_mail(client, sender, recipient, listed_in):
        greet(client)
        code, words = client.mail(sender)
        if code != 250:
            raise smtplib.SMTPSenderRefused(code, words, sender)
        code, words = client.rcpt(recipient)
        client.rset()
        if code not in (250, 251):
            raise smtplib.SMTPRecipientsRefused({recipient: (code, words)})
