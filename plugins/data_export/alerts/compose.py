"""From an alert to mails: one for each recipient, who sees no other."""

import hashlib
from collections.abc import Iterable
from datetime import date
from email.message import EmailMessage
from pathlib import Path

from data_export.alerts.alert import Alert, as_text
from data_export.delivery.email.message import message, render

_TEMPLATE = Path(__file__).with_name("templates") / "alert.html"
LISTED_IN = "`owner` in the customer file or alerts.emails in platform.yaml"


def compose(alert: Alert, sender: str, recipients: Iterable[str], day: date) -> list[EmailMessage]:
    """Mails in text and HTML, recipients without their doubles.

    All mails about the same exports and cause refer to one thread. The Message-ID says who is told what on which day,
    so a mail that is sent twice after a lost answer is recognised by mailboxes.
    """
    text, html = as_text(alert), render(_TEMPLATE, {"alert": alert})
    about = "\n".join([alert.cause, *alert.exports])
    thread = f"<{_digest(about)}.data-export@{sender.rpartition('@')[2]}>"
    mails = []
    for recipient in {address.lower(): address for address in recipients}.values():
        message_id = _digest("\n".join([about, str(day), recipient.lower()]))
        mail = message(alert.subject, sender, recipient, message_id, text, html)
        mail["References"] = mail["In-Reply-To"] = thread
        mails.append(mail)
    return mails


def _digest(text: str) -> str:
    return hashlib.sha256(f"alert\n{text}".encode()).hexdigest()[:40]
