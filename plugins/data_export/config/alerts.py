"""Who is told of what, and how: the section `alerts` of `platform.yaml`."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from data_export.config.cron import check_cron
from data_export.config.fields import Email, quoted

#: What an alert can be about: a task that failed for good, a window that is overdue, records set aside.
Occasion = Literal["failure", "late", "quarantine"]
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


class Section(BaseModel):
    """A section of `platform.yaml`: frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _dotted(value: str) -> str:
    if not _DOTTED.fullmatch(value):
        example = "airflow.providers.slack.notifications.slack.SlackNotifier"
        raise ValueError(f"{quoted(value)} is not the path of a class: write e.g. {example}")
    return value


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
        default=("failure", "late", "quarantine"), min_length=1, description="which alerts it is called with"
    )


class AlertSettings(Section):
    """Who is told of what goes wrong."""

    emails: tuple[Email, ...] = Field(default=(), description="told of every export's alerts, beside its `owner`")
    notifiers: tuple[NotifierSettings, ...] = Field(default=(), description="Airflow notifiers: Slack and the like")
    watch_schedule: Annotated[str, AfterValidator(check_cron)] = Field(
        default="*/15 * * * *", description="cron expression in UTC: when late windows and broken files are looked for"
    )
