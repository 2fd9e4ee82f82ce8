"""One mail to one recipient, from templates in text and HTML."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from data_export.wording import harmless, visible


def render(template: Path, values: Mapping[str, object], **filters: Callable[..., str]) -> str:
    """The template's text; values are escaped where its name ends in .html, and an unknown one is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(template.name).render(values)


def message(subject: str, sender: str, recipient: str, message_id: str, text: str, html: str) -> EmailMessage:
    """The mail, dated now. `message_id` is the part before the @; mailboxes recognise a mail composed again by it.

    Nothing invisible stands in it, whatever it quotes, and nothing of the subject becomes a header of its own.
    """
    composed = EmailMessage(policy=SMTP)
    composed["Subject"] = harmless(subject)
    composed["From"] = sender
    composed["To"] = recipient
    composed["Date"] = datetime.now(UTC)
    composed["Message-ID"] = f"<{message_id}.data-export@{sender.rpartition('@')[2]}>"
    composed["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    composed.set_content(_seen(text))
    composed.add_alternative(_seen(html), subtype="html")
    return composed


def _seen(body: str) -> str:
    return "\n".join(map(visible, body.split("\n")))
