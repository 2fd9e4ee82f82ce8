"""`connector_config` of the email connector."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, field_validator

from data_export.config.fields import Email, Flag
from data_export.delivery.base import LONGEST_LINK_HOURS
from data_export.delivery.connector import ConnectorConfig, LinkHours
from data_export.delivery.handed_over import Handover


class EmailConfig(ConnectorConfig):
    """A temporary link to one data file, by mail. Images cannot be exported this way."""

    summary: ClassVar[str] = "a temporary link to the data file, by mail"
    target_key: ClassVar[str] = "emails"
    also_called: ClassVar[frozenset[str]] = frozenset({"mail", "e_mail", "smtp", "link"})

    emails: tuple[Email, ...] = Field(
        min_length=1,
        description="who receives the link, one or more addresses",
        json_schema_extra={"uniqueItems": True},
    )
    link_ttl_hours: LinkHours | None = Field(
        default=None,
        description=f"hours the link works, 1 to {LONGEST_LINK_HOURS} (default: the platform's, 12)",
    )
    export_images: Flag = Field(
        default=False, description="always false: a link carries no images", json_schema_extra={"const": False}
    )

    @field_validator("emails")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        seen: set[str] = set()
        for address in value:
            if address.lower() in seen:
                raise ValueError(f"names {address} twice: remove one")
            seen.add(address.lower())
        return value

    @field_validator("export_images")
    @classmethod
    def _no_images(cls, value: bool) -> bool:
        if value:
            raise ValueError(
                "true is not possible with the email connector, whose link carries the data file only: "
                "remove it, or use cloud_storage or sftp"
            )
        return value

    @property
    def kind(self) -> str:
        return "email"

    def address(self) -> None:
        return None

    def identity(self) -> None:
        """Mailed links have names of their own."""
        return

    def describe(self) -> str:
        count = len(self.emails)
        return f"a temporary link, mailed to {count} recipient{'s' * (count != 1)}"

    @classmethod
    def keys_of(cls, target: str) -> dict[str, str | list[str]] | None:
        return {"emails": target.replace(",", " ").split()} if "@" in target and "://" not in target else None

    def handover(self) -> Handover:
        from data_export.check.shared_steps import MAIL

        template = Path(__file__).parent / "templates" / "handover.md"
        return Handover(MAIL, template, {"emails": self.emails}, place="a mail with a link to the file")

    def recipients(self) -> tuple[str, ...]:
        return self.emails

    def link_hours(self, usual: int) -> int:
        return self.link_ttl_hours or usual

    def consequences(self, before: Self) -> Iterator[str]:
        if before.emails != self.emails:
            yield "the next links go to the new recipients only"
