"""What an alert says, what makes two of them the same to a person, and the mail that carries it."""

import hashlib
import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from data_export.config.sections import Occasion
from data_export.delivery.email.message import message, render
from data_export.window import ExportWindow

_TIME = r"\d{2}[:-]\d{2}[:-]\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})?"
_STAMP = rf"\d{{4}}-\d{{2}}-\d{{2}}[_T]{_TIME}"
_SUFFIXES = r"(?:\.[\w-]+)*"  # of a revision and a file's type
_ALONE, _ENDED = r"(?<![\w.:/@'\"=-])", r"(?![\w/@'\"-]|[.:]\w)"  # not within a name, an address or a quoted value
_VARYING = re.compile(
    "|".join(
        (
            # inputs and sites, and the images that are named by them
            rf"[0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}[\w-]*{_SUFFIXES}",
            # windows, and the files that are named by them
            rf"(?<![a-z0-9]){_STAMP}(?:_{_STAMP})?{_SUFFIXES}",
            rf"{_ALONE}\d{{4}}-\d{{2}}-\d{{2}}(?: \d{{2}}:\d{{2}}(?::\d{{2}})?)?{_ENDED}",
            # digests and random names; an AWS account has 12 digits
            r"(?<![a-z0-9])[0-9a-f]{16,}(?:-[0-9a-f]{12})?(?![a-z0-9])",
            r"(?:md5|crc32c)='[^']*'|size=\d+",
            r"request ?id[:= ]+\w+",
            r"/try-\d+/",
            # counts and sizes, as in "3 of 1,204 images"; not codes, ports and lines
            rf"(?<!port )(?<!line ){_ALONE}\d[\d,]*(?:\.\d+)?(?= [a-z])|(?<=holds )\d+{_ENDED}",
        )
    ),
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Alert:
    """One message to people, without secrets.

    `subject` stays the same for the same exports and cause, so that mail programs show repeats as one thread.
    """

    occasion: Occasion
    exports: tuple[str, ...]
    cause: str
    subject: str
    #: What happened, in one sentence.
    lead: str
    #: Label and value, in the order in which they are shown.
    facts: tuple[tuple[str, str], ...] = ()
    #: The things that the sentence speaks of, where there are several.
    items: tuple[str, ...] = ()
    fix: str = ""
    #: Commands that make it good, each on its own line.
    commands: tuple[str, ...] = ()
    link: str = ""
    #: Address of what is known of the error (docs/errors.md).
    guide: str = ""
    #: When this was last sent, and how often it has happened since.
    repeated: str = ""
    #: Whether it follows a recovery of the same day, so that it is no repeat of what was sent before that.
    after_recovery: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What a notifier's templates see as `alert`."""
        return {
            "occasion": self.occasion,
            "exports": ", ".join(self.exports),
            "subject": self.subject,
            "text": as_text(self),
            "fix": self.fix,
            "link": self.link,
            "guide": self.guide,
        }


def as_text(alert: Alert) -> str:
    """The alert as plain text, for people and for chat programs."""
    width = max((len(label) for label, _ in alert.facts), default=0)
    blocks = [
        [alert.lead],
        [alert.repeated],
        [f"{label:<{width}}  {value}" for label, value in alert.facts],
        [f"- {item}" for item in alert.items],
        [alert.link],
        [alert.fix],
        [f"About this error: {alert.guide}"] * bool(alert.guide),
        ["On the command line:"] * bool(alert.commands),
        [f"    {command}" for command in alert.commands],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if any(block)) + "\n"


def cause_of(occasion: str, error: str, message: str = "") -> str:
    """The key of a cause: 16 hexadecimal digits that do not change with sites, records, dates and counts.

    The words, names and addresses of the message count, with the digits in them, so that another bucket, host, port,
    user or field is another cause; dates, counts, uuids, digests and the names of data files and images do not, so that
    the same fault of twenty sites or of another day is one.
    """
    text = f"{occasion}\n{error}\n{_VARYING.sub('#', message)}"
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


_TEMPLATE = Path(__file__).with_name("templates") / "alert.html"
LISTED_IN = "`owner` in the customer file or alerts.emails in platform.yaml"


def compose(alert: Alert, sender: str, recipients: Iterable[str], day: date) -> list[EmailMessage]:
    """Mails in text and HTML, recipients without their doubles.

    All mails about the same exports and cause refer to one thread. The Message-ID says who is sent what on which day,
    so a mail that is sent twice after a lost answer is recognised by mailboxes, as are those of many sites where the
    ledger is away. A failure after a recovery is another one. Of other occasions the text counts, since a day may have
    several, but not what another try of the same changes.
    """
    text, html = as_text(alert), render(_TEMPLATE, {"alert": alert})
    about, said = "\n".join([alert.cause, *alert.exports]), "after a recovery" * alert.after_recovery
    if alert.occasion != "failure":
        said = as_text(replace(alert, link="", repeated=""))
    thread = f"<{_digest(about)}.data-export@{sender.rpartition('@')[2]}>"
    mails = []
    for recipient in {address.lower(): address for address in recipients}.values():
        message_id = _digest("\n".join([about, str(day), recipient.lower(), said]))
        mail = message(alert.subject, sender, recipient, message_id, text, html)
        mail["References"] = mail["In-Reply-To"] = thread
        mails.append(mail)
    return mails


def _digest(text: str) -> str:
    return hashlib.sha256(f"alert\n{text}".encode(errors="backslashreplace")).hexdigest()[:40]


_MOST_ITEMS = 50


def shortened(items: list[str]) -> tuple[str, ...]:
    """The first ones, and how many are left out."""
    more = len(items) - _MOST_ITEMS
    return tuple(items) if more <= 0 else (*items[:_MOST_ITEMS], f"... and {more:,} more")


def window_as_text(window: ExportWindow) -> str:
    """`2025-03-16 00:00 to 2025-03-17 00:00 UTC`."""
    start, end = (f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00") for moment in (window.start, window.end))
    return f"{start} to {end} UTC"


def backfill_command(export: str, first: ExportWindow, last: ExportWindow) -> str:
    """Runs every window from the first to the last again, those excepted that succeeded; shows them first and asks."""
    start, end = first.start.isoformat(), last.end.isoformat()
    return f"python -m data_export_airflow backfill {export} --from {start} --to {end} --reprocess failed"


def trigger_command(dag: str, window: ExportWindow) -> str:
    """Runs a range by hand, whatever the windows of the schedule are."""
    conf = {"from": window.start.isoformat(), "to": window.end.isoformat()}
    return f"airflow dags trigger {dag} --conf {shlex.quote(json.dumps(conf))}"
