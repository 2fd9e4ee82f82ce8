"""What an alert says, whatever it is sent with."""

from dataclasses import dataclass
from typing import Any

from data_export.config.sections import Occasion


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
    #: When this was told before, and how often it has happened since.
    repeated: str = ""

    def to_dict(self) -> dict[str, Any]:
        """What a notifier's templates see as `alert`."""
        return {
            "occasion": self.occasion,
            "exports": ", ".join(self.exports),
            "subject": self.subject,
            "text": as_text(self),
            "fix": self.fix,
            "link": self.link,
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
        ["On the command line:"] * bool(alert.commands),
        [f"    {command}" for command in alert.commands],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if any(block)) + "\n"
