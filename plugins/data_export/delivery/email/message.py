"""One mail to one recipient, from templates in text and HTML."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from data_export.window import ExportWindow
from data_export.wording import harmless, visible


class Letterhead(NamedTuple):
    """What a mail to a customer says of its sender, and the zone in which the customer reads times."""

    platform: str = ""
    contact: str | None = None
    timezone: str = "UTC"

    def moment(self, at: datetime) -> str:
        """`2025-03-16 01:00 (Europe/Paris)`; in UTC `2025-03-16 00:00 UTC`."""
        return f"{self._local(at)} {self._zone}"

    def window(self, window: ExportWindow) -> str:
        """`2025-03-16 00:00 to 2025-03-17 00:00 (Europe/Paris)`; the end is exclusive."""
        return f"{self._local(window.start)} to {self._local(window.end)} {self._zone}"

    def _local(self, at: datetime) -> str:
        return f"{at.astimezone(ZoneInfo(self.timezone)):%Y-%m-%d %H:%M:%S}".removesuffix(":00")

    @property
    def _zone(self) -> str:
        return "UTC" if self.timezone == "UTC" else f"({self.timezone})"


def render(template: Path, values: Mapping[str, object]) -> str:
    """The template's text; values are escaped where its name ends in .html, and an unknown one is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(values)


def message(
    subject: str, sender: str, recipient: str, message_id: str, text: str, html: str, reply_to: str | None = None
) -> EmailMessage:
    """The mail, dated now. `message_id` is the part before the @; mailboxes recognise a mail composed again by it.

    Nothing invisible stands in it, whatever it quotes, and nothing of the subject becomes a header of its own.
    """
    composed = EmailMessage(policy=SMTP)
    composed["Subject"] = harmless(subject)
    composed["From"] = sender
    composed["To"] = recipient
    if reply_to:
        composed["Reply-To"] = reply_to
    composed["Date"] = datetime.now(UTC)
    composed["Message-ID"] = f"<{message_id}.data-export@{sender.rpartition('@')[2]}>"
    composed["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    composed.set_content(_seen(text))
    composed.add_alternative(_seen(html), subtype="html")
    return composed


def _seen(body: str) -> str:
    return "\n".join(map(visible, body.split("\n")))
