"""The mails that customers have received, and what their links give."""

import re
from email.message import EmailMessage

import httpx

from data_export.window import ExportWindow
from demo.platform import EmbeddedPlatform

_LINK = re.compile(r"https?://\S+")


def mails_about(platform: EmbeddedPlatform, name: str, window: ExportWindow) -> list[EmailMessage]:
    """Every mail whose link is to this export and window, oldest first."""
    stamp = window.stamp.replace(":", "-")
    return [mail for mail in platform.smtp.messages() if f"/{name}_" in link_of(mail) and stamp in link_of(mail)]


def text_of(mail: EmailMessage) -> str:
    """The plain-text part."""
    body = mail.get_body(("plain",))
    return "" if body is None else str(body.get_content())


def link_of(mail: EmailMessage) -> str:
    """The link in the text; empty where there is none."""
    found = _LINK.search(text_of(mail))
    return found[0] if found else ""


def fetch(mail: EmailMessage) -> httpx.Response:
    """What somebody gets who clicks the link: no credentials of ours."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        return client.get(link_of(mail))
