"""A customer file as a frozen model. Parameter names are those of the service's public page."""

import hashlib
import json
import re
from datetime import UTC, date, datetime
from datetime import time as midnight
from typing import Annotated, Literal, Self
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from data_export.config.connectors import CloudStorageConfig, ConnectorConfig, Email, EmailConfig, SftpConfig
from data_export.config.cron import check_cron

ExportType = Literal["work-orders-timeline", "work-orders-states"]
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
PRESETS = ("once", "hourly", "daily", "weekly", "monthly")


def _timezone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError(f"{value!r} is not a time zone of the IANA database: write e.g. Europe/Paris")
    return value


def _interval(value: str) -> str:
    if value not in PRESETS:
        check_cron(value)
    return value


class CustomerExport(BaseModel):
    """One file of `include/customers/`: what is exported, for which windows, to where."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    site_id: tuple[UUID, ...] = Field(min_length=1, description="sites to export, one or more uuids")
    export_type: ExportType = Field(
        default="work-orders-timeline", description="all inputs of each work item, or only the last created (states)"
    )
    file_format: Literal["json"] = Field(default="json", description="JSON Lines, the only format")
    interval: Annotated[str, AfterValidator(_interval)] = Field(
        description="once, hourly, daily, weekly, monthly, or a 5-field cron expression"
    )
    start_date: datetime | date = Field(description="the first window starts here; without zone it is in `timezone`")
    end_date: datetime | date | None = Field(default=None, description="exclusive; required for `once`")
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        default="UTC", description="IANA zone at whose midnight windows are cut; file names are always UTC"
    )
    enabled: bool = Field(default=True, description="false keeps the file but schedules nothing")
    connector_type: str
    connector_config: ConnectorConfig
    owner: Email | None = Field(default=None, description="who is alerted beside the platform's list")
    delivery_receipt: bool = Field(default=False, description="whether a receipt is delivered beside each data file")
    on_invalid: Literal["fail", "quarantine"] = Field(
        default="fail", description="a record the format cannot express fails the run, or is set aside and counted"
    )

    @field_validator("site_id")
    @classmethod
    def _distinct(cls, value: tuple[UUID, ...]) -> tuple[UUID, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a site twice: remove one")
        return value

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.interval == "once" and self.end_date is None:
            raise ValueError("end_date is required with interval once: the one window is [start_date, end_date)")
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end_date {self.end_date} is not after start_date {self.start_date}")
        return self

    @property
    def start(self) -> datetime:
        """`start_date` as an instant, UTC."""
        return self._instant(self.start_date)

    @property
    def end(self) -> datetime | None:
        """`end_date` as an instant, UTC; exclusive."""
        return None if self.end_date is None else self._instant(self.end_date)

    @property
    def sites(self) -> tuple[UUID, ...]:
        """The sites in the order in which a combined file holds them."""
        return tuple(sorted(self.site_id))

    @property
    def scheme(self) -> str:
        """Which connector serves the target: gs, s3, file, sftp or email."""
        config = self.connector_config
        return config.scheme if isinstance(config, CloudStorageConfig) else self.connector_type

    @property
    def export_images(self) -> bool:
        return bool(getattr(self.connector_config, "export_images", False))

    def config_hash(self) -> str:
        """First 16 hexadecimal digits of a SHA-256 over the settings, secrets left out."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _instant(self, value: datetime | date) -> datetime:
        moment = value if isinstance(value, datetime) else datetime.combine(value, midnight())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(self.timezone))
        if moment.microsecond:
            raise ValueError(f"{value} has a fraction of a second: use whole seconds")
        return moment.astimezone(UTC)


class EmailExport(CustomerExport):
    connector_type: Literal["email"]
    connector_config: EmailConfig


class CloudStorageExport(CustomerExport):
    connector_type: Literal["cloud_storage"]
    connector_config: CloudStorageConfig


class SftpExport(CustomerExport):
    connector_type: Literal["sftp"]
    connector_config: SftpConfig


AnyExport = Annotated[EmailExport | CloudStorageExport | SftpExport, Field(discriminator="connector_type")]
EXPORT: TypeAdapter[EmailExport | CloudStorageExport | SftpExport] = TypeAdapter(AnyExport)


def dag_id(name: str) -> str:
    """`data_export__<name with _ for ->`."""
    return "data_export__" + name.replace("-", "_")
