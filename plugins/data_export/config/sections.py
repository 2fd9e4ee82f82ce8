"""Who is alerted of what, and how (`alerts` of `platform.yaml`), and what an export may ask for (`limits`)."""

import re
from datetime import date
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from data_export.config.fields import (
    SPELLED_NUMBER,
    SPELLED_WHOLE,
    Email,
    Flag,
    SecretReference,
    Whole,
    quoted,
    reference_of,
)
from data_export.config.moments import Day, check_cron

#: What an alert can be about: a task that failed for good, a window that is overdue, records set aside, delivered files
#: that are not at the target as they were delivered; that an export of which people know a failure delivers again.
Occasion = Literal["failure", "late", "quarantine", "audit", "recovery"]
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


class Section(BaseModel):
    """A section of `platform.yaml`: frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _dotted(value: str) -> str:
    if not _DOTTED.fullmatch(value):
        example = "airflow.providers.slack.notifications.slack.SlackNotifier"
        raise ValueError(f"{quoted(value)} is not the path of a class: write e.g. {example}")
    return value


def _webhook_url(value: str) -> str:
    from data_export.delivery.webhook import checked_url  # late: only files with a webhook need it

    return checked_url(value)


def _is_reference(value: SecretStr) -> SecretStr:
    if reference_of(value) is None:
        raise ValueError("is the secret itself: write env:DATA_EXPORT_SECRET_<NAME> or var:<NAME>, which holds it")
    return value


class Webhook(Section):
    """A customer's system that is sent each receipt, signed (docs/notices.md)."""

    url: Annotated[str, AfterValidator(_webhook_url)] = Field(description="https://host/path, public")
    secret: Annotated[SecretReference, AfterValidator(_is_reference)] = Field(
        description="env:DATA_EXPORT_SECRET_... or var:NAME (Airflow Variable) that holds whsec_ and base64"
    )


class OnDelivery(Section):
    """`on_delivery` of a customer file: who hears that a window was delivered."""

    emails: tuple[Email, ...] = Field(default=(), description="get one mail a window, with the receipt")
    webhook: Webhook | None = Field(default=None, description="gets one signed POST a window, with the receipt")

    def __bool__(self) -> bool:
        return bool(self.emails or self.webhook)


def _network(value: str) -> str:
    try:
        return str(ip_network(value)).removesuffix("/32").removesuffix("/128")
    except ValueError:
        fix = "write an address such as 203.0.113.7, or a network such as 203.0.113.0/28"
        raise ValueError(f"{quoted(value)} is not an address: {fix}") from None


class NetworkSettings(Section):
    """What the service may connect to, and from where it does."""

    egress: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(), description="addresses from which workers connect, which customers let in: for the hand-over sheet"
    )
    private_webhooks: Flag = Field(
        default=False, description="whether webhooks may be at private addresses, for demo and tests only"
    )


class NotifierSettings(Section):
    """An Airflow notifier that is called with every alert. Its class is imported when it is used, not before."""

    model_config = ConfigDict(populate_by_name=True)

    class_path: Annotated[str, AfterValidator(_dotted)] = Field(
        alias="class", description="path of a subclass of airflow.sdk.BaseNotifier"
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="its arguments; Airflow renders templates such as {{ alert.text }}",
    )
    on: tuple[Occasion, ...] = Field(
        default=("failure", "late", "quarantine", "audit", "recovery"),
        min_length=1,
        description="which alerts it is called with",
    )


class AlertSettings(Section):
    """Who is alerted when something goes wrong."""

    emails: tuple[Email, ...] = Field(default=(), description="get every export's alerts, besides its `owner`")
    notifiers: tuple[NotifierSettings, ...] = Field(default=(), description="Airflow notifiers: Slack and the like")
    watch_schedule: Annotated[str, AfterValidator(check_cron)] = Field(
        default="*/15 * * * *", description="cron expression in UTC: when late windows and broken files are looked for"
    )


class MaintenanceSettings(Section):
    """What the DAG `data_export_maintenance` and the command `clean-database` remove."""

    schedule: Annotated[str, AfterValidator(check_cron)] = Field(
        default="30 3 * * *", description="cron expression in UTC: when data_export_maintenance runs"
    )
    staging: Flag = Field(
        default=True,
        description="whether what failed runs staged, files behind expired links and old notices are removed from "
        "staging; where not, a lifecycle rule of its bucket has to",
    )
    targets: Flag = Field(
        default=True, description="whether unfinished uploads and files of killed runs go, in staging and at targets"
    )
    log_days: Annotated[int, Field(ge=1, le=3650), SPELLED_WHOLE] | None = Field(
        default=30, description="days that Airflow's log files are kept on disk; null: they are left alone"
    )
    database_days: Annotated[int, Field(ge=30, le=3650), SPELLED_WHOLE] | None = Field(
        default=365, description="days that Airflow's database keeps its history; null: for ever"
    )


_AuditDays = Annotated[int, Field(ge=1, le=3650), SPELLED_WHOLE]


class AuditSettings(Section):
    """What the DAG `data_export_audit` looks at: delivered files, and whether they are still at the target."""

    schedule: Annotated[str, AfterValidator(check_cron)] = Field(
        default="0 6 * * 0", description="cron expression in UTC: when data_export_audit runs"
    )
    enabled: Flag = Field(default=True, description="whether exports are audited whose files say nothing else")
    days: _AuditDays = Field(default=90, description="what was delivered within so many days is looked for")
    sample: Whole = Field(
        default=20, ge=0, le=100_000, description="data files of each export that are read, with their images"
    )
    minutes: Whole = Field(default=30, ge=1, le=1440, description="how long the audit of one export may take")
    repair: Flag = Field(
        default=False,
        description="whether windows with damaged or missing files are delivered again, by their own runs",
    )
    drift: Flag = Field(
        default=False, description="whether sampled windows are extracted again and compared; nothing is delivered"
    )


class CustomerAudit(Section):
    """`audit` of a customer file: what differs from the platform's for this target."""

    enabled: Flag | None = Field(
        default=None, description="false where the customer removes files from the target once they are loaded"
    )
    days: _AuditDays | None = Field(default=None, description="how long files stay at the target, at least")
    repair: Flag | None = Field(default=None, description="whether windows with damaged files are delivered again")
    drift: Flag | None = Field(default=None, description="whether sampled windows are compared with the source")

    def over(self, platform: AuditSettings) -> AuditSettings:
        """The platform's settings with what the customer file says otherwise."""
        return platform.model_copy(update=self.model_dump(exclude_none=True))


_CENTURY = 36_525  # in days
_DAY = 24 * 60  # in minutes
_MAX_RUNS = 100
_MAX_SITES = 1024

_Days = Annotated[int, Field(ge=1, le=_CENTURY), SPELLED_WHOLE]
_Runs = Annotated[int, Field(ge=1, le=_MAX_RUNS), SPELLED_WHOLE]
_Minutes = Annotated[int, Field(ge=0, le=_DAY), SPELLED_WHOLE]
_Hours = Annotated[float, Field(ge=0.001, le=8760), SPELLED_NUMBER]


class LimitSettings(BaseModel):
    """`limits` of platform.yaml: what an export may ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_window_days: _Days = Field(default=400, description="longest window")
    earliest: Day = Field(default=date(2020, 1, 1), description="no window starts before this day, UTC")
    max_active_runs: _Runs = Field(
        default=3, description="runs of one export at once, and runs of one backfill at once"
    )
    sites_at_once: Whole = Field(
        default=2,
        ge=1,
        le=_MAX_SITES,
        description="sites of one export worked on at once, by each run and by each step: its share of the workers",
    )
    max_record_mb: Annotated[int, Field(ge=1, le=1000), SPELLED_WHOLE] = Field(
        default=32,
        description="MB of the line of one work order; a task takes up to twelve times as much memory",
    )
    settle_minutes: _Minutes = Field(
        default=5, description="how long after its end a window is read, so that late commits are in"
    )
    late_after_hours: _Hours = Field(
        default=2, description="hours after a window's end; one not delivered by then is late"
    )


class CustomerLimits(BaseModel):
    """`limits` of a customer file: narrower than the platform's, never wider; `settle_minutes` and `late_after_hours`
    may be either."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_window_days: _Days | None = Field(default=None, description="longest window, in days")
    earliest: Day | None = Field(default=None, description="no window starts before this day, UTC")
    max_active_runs: _Runs | None = Field(
        default=None, description="runs of the export at once, and runs of one backfill at once"
    )
    settle_minutes: _Minutes | None = Field(
        default=None, description="how long after its end a window is read, so that late commits are in"
    )
    late_after_hours: _Hours | None = Field(
        default=None, description="hours after a window's end; one not delivered by then is late"
    )
