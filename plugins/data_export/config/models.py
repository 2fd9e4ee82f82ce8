"""A customer file as a frozen model. Parameter names are those of the service's public page.

A check that needs two keys sits on the later declared one, so that its message names that key's line.
"""

import hashlib
import json
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationInfo, create_model, field_validator

from data_export.config.fields import NAME, Email, Flag
from data_export.config.moments import Interval, Moment, TimeZone, instant, length, window_days
from data_export.config.sections import CustomerAudit, CustomerLimits, OnDelivery
from data_export.config.sites import SiteIds, site_label
from data_export.delivery.connector import ConnectorConfig
from data_export.delivery.registry import CONNECTORS
from data_export.layout import Encoding

ExportType = Literal["work-orders-timeline", "work-orders-states"]
_DAG_PREFIX = "data_export__"


class CustomerExport(BaseModel):
    """One file of `include/customers/`: what is exported, for which windows, to where."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={
            "if": {"properties": {"interval": {"const": "once"}}, "required": ["interval"]},
            "then": {"required": ["end_date"]},
        },
    )

    site_id: SiteIds = Field(description="sites to export, one or more uuids, or names and their uuids")
    export_type: ExportType = Field(
        default="work-orders-timeline", description="all inputs of each work item, or only the last created (states)"
    )
    file_format: Literal["json", "parquet"] = Field(
        default="json", description="json: JSON Lines, a work order a line; parquet: the same records, nested"
    )
    compression: Literal["none", "gzip", "zstd"] = Field(
        default="none", description="how json files are compressed; parquet always is, inside"
    )
    interval: Interval = Field(description="once, hourly, daily, weekly, monthly, or a 5-field cron expression")
    timezone: TimeZone = Field(
        default="UTC", description="IANA zone at whose midnight windows are cut; file names are always UTC"
    )
    start_date: Moment = Field(description="the first window starts here; without zone it is in `timezone`")
    end_date: Moment | None = Field(
        default=None, validate_default=True, description="windows end here, exclusive; required with interval once"
    )
    limits: CustomerLimits = Field(
        default=CustomerLimits(),
        description="narrower than the platform's: longest window, earliest date, runs at once",
    )
    enabled: Flag = Field(default=True, description="false keeps the file but schedules nothing")
    connector_type: str = Field(description=" or ".join((", ".join([*CONNECTORS][:-1]), [*CONNECTORS][-1])))
    connector_config: ConnectorConfig = Field(description="the connector's own settings")
    customer: str | None = Field(
        default=None,
        pattern="^[a-z0-9][a-z0-9-]{0,62}$",
        description="whose sites and target these are: a name of tenants.yaml, required where that file is there",
    )
    owner: Email | None = Field(default=None, description="who is alerted, in addition to the platform's list")
    delivery_receipt: Flag = Field(default=False, description="whether a receipt is delivered with each data file")
    manifest: Flag = Field(
        default=False, description="whether each window ends with a manifest of all its files, manifests/<export_type>/"
    )
    on_delivery: OnDelivery | None = Field(
        default=None, description="who hears that a window was delivered: mails, and a signed webhook"
    )
    audit: CustomerAudit | None = Field(
        default=None, description="how the weekly audit looks for this export's files, where not as platform.yaml says"
    )
    on_invalid: Literal["fail", "quarantine"] = Field(
        default="fail", description="a record the format cannot express fails the run, or is set aside and counted"
    )
    on_image_failure: Literal["deliver", "fail"] = Field(
        default="deliver",
        description="an image that cannot be read or stored is counted and the data delivered, or it fails the run",
    )

    @field_validator("compression")
    @classmethod
    def _of_json(cls, value: str, info: ValidationInfo) -> str:
        if value != "none" and info.data.get("file_format") == "parquet":
            raise ValueError(f"{value} is for file_format json: remove it, parquet is compressed inside")
        return value

    @field_validator("end_date")
    @classmethod
    def _after_start(cls, value: Moment | None, info: ValidationInfo) -> Moment | None:
        if value is None:
            if info.data.get("interval") == "once":
                raise ValueError("is missing: interval once exports the one window [start_date, end_date), add its end")
            return value
        start, timezone = info.data.get("start_date"), info.data.get("timezone")
        if start is not None and timezone is not None and instant(value, timezone) <= instant(start, timezone):
            raise ValueError(f"{value} is not after start_date {start}: write a later date, or remove it")
        return value

    @field_validator("manifest")
    @classmethod
    def _at_a_target(cls, value: bool, info: ValidationInfo) -> bool:
        config = info.data.get("connector_config")
        if value and config is not None and config.address() is None:
            raise ValueError("true needs a target: a link by mail is one file, remove it")
        return value

    @field_validator("limits")
    @classmethod
    def _lets_windows_pass(cls, value: CustomerLimits, info: ValidationInfo) -> CustomerLimits:
        interval, days = info.data.get("interval"), None
        start, end, timezone = (info.data.get(key) for key in ("start_date", "end_date", "timezone"))
        if interval == "once" and start is not None and end is not None and timezone is not None:
            days = ceil(length(instant(start, timezone), instant(end, timezone), timezone) / timedelta(days=1))
        elif interval not in (None, "once"):
            days = window_days(interval)[1]
        if days is not None and value.max_window_days is not None and days > value.max_window_days:
            raise ValueError(
                f"max_window_days {value.max_window_days} is less than a window of interval {interval} has "
                f"({days} days), so none could be exported: write {days} or more, or a shorter interval"
            )
        return value

    @property
    def start(self) -> datetime:
        """`start_date` as an instant, UTC."""
        return instant(self.start_date, self.timezone)

    @property
    def end(self) -> datetime | None:
        """`end_date` as an instant, UTC; exclusive."""
        return None if self.end_date is None else instant(self.end_date, self.timezone)

    @property
    def sites(self) -> tuple[UUID, ...]:
        """The sites in the order in which a combined file holds them."""
        return tuple(sorted(self.site_id))

    def site_label(self, site: UUID | str) -> str:
        """A site's name, or its uuid where it has none."""
        return site_label(self.site_id, site)

    @property
    def encoding(self) -> Encoding:
        """How the data files are packed."""
        packed: dict[str, Encoding] = {"none": "json", "gzip": "gzip", "zstd": "zstd"}
        return "parquet" if self.file_format == "parquet" else packed[self.compression]

    @property
    def scheme(self) -> str:
        """Which connector serves the target: gs, s3, abfs, file, sftp or email."""
        return self.connector_config.kind

    @property
    def export_images(self) -> bool:
        return bool(getattr(self.connector_config, "export_images", False))

    def transfers_at_once(self, sites_at_once: int) -> int:
        """How many sites may be copied to at once, and as many delivered to, to stay within `max_connections` too."""
        return self.connector_config.parallel_transfers(sites_at_once, len(self.site_id))

    def config_hash(self) -> str:
        """First 16 hexadecimal digits of a SHA-256 over the settings, secrets left out."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def export_of(connector_type: str, config: type[ConnectorConfig]) -> type[CustomerExport]:
    """The model of the customer files of one connector."""
    fields: dict[str, Any] = {
        "connector_type": (Literal[connector_type], Field(description=config.summary)),
        "connector_config": (config, Field(description=f"settings of the {connector_type} connector")),
    }
    name = connector_type.title().replace("_", "") + "Export"
    doc = f"A customer file whose connector is `{connector_type}`."
    made: type[CustomerExport] = create_model(name, __base__=CustomerExport, __doc__=doc, **fields)
    return made


#: The model of each `connector_type`.
EXPORTS: dict[str, type[CustomerExport]] = {key: export_of(key, config) for key, config in CONNECTORS.items()}
if TYPE_CHECKING:
    AnyExport = CustomerExport
else:
    AnyExport = Annotated[Union[tuple(EXPORTS.values())], Field(discriminator="connector_type")]  # noqa: UP007 - of any number
EXPORT: TypeAdapter[CustomerExport] = TypeAdapter(AnyExport)


def dag_id(name: str) -> str:
    """`data_export__<name with _ for ->`. Different names give different ids, since a name has no `_`."""
    return _DAG_PREFIX + name.replace("-", "_")


def name_of(dag_id: str) -> str | None:
    """The export whose DAG has this id; None for other DAGs."""
    name = dag_id.removeprefix(_DAG_PREFIX).replace("_", "-")
    return name if dag_id.startswith(_DAG_PREFIX) and NAME.fullmatch(name) else None
