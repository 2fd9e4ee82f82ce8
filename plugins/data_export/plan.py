"""What a run has frozen: the customer's configuration, the window, and where everything goes."""

import secrets
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_export import layout
from data_export.config.models import AnyExport
from data_export.errors import ConfigError
from data_export.limits import Limits, check_window
from data_export.window import ExportWindow


class ExportPlan(BaseModel):
    """A run's first step makes it and the others read it: a file edited meanwhile changes the next run, never this one.

    It travels as a JSON dict without secrets: a literal passphrase is masked (`data_export.config.fields`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(description="stem of the customer file")
    export: AnyExport
    window: ExportWindow
    run_token: str = Field(
        pattern="^[A-Za-z0-9_-]{1,64}$", description="distinguishes this run's staged files from any other's"
    )
    config_hash: str
    created_at: str = Field(description="ISO 8601 in UTC")

    @property
    def staging_prefix(self) -> str:
        return layout.staging_run_prefix(self.name, self.window, self.run_token)

    @property
    def sites(self) -> tuple[UUID, ...]:
        return self.export.sites

    def data_key(self, site_id: UUID, revision: int = 1) -> str:
        return layout.data_key(site_id, self.export.export_type, self.window, revision, self.export.encoding)

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json") | {"window": self.window.to_dict()}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """The plan that `to_dict` wrote down, a literal passphrase masked.

        Raises:
            ConfigError: another version of the service wrote it, with other keys.
        """
        try:
            return cls.model_validate(value | {"window": ExportWindow.from_dict(value["window"])})
        except (ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the plan of {value.get('name')} was made by another version of the service ({type(error).__name__}): "
                "clear the run from its first task on"
            ) from None


def prepare(name: str, export: AnyExport, window: ExportWindow, limits: Limits, now: datetime) -> ExportPlan:
    """The frozen plan of one run. Reads nothing: what breaks a limit is refused before the source is touched.

    The plan's `run_token` is random, so that no other run, nor a reader of the staging area, meets its names.

    Raises:
        LimitExceeded: naming the limit, its value and the window.
    """
    check_window(name, export, window, limits, now)
    return ExportPlan(
        name=name,
        export=export,
        window=window,
        run_token=secrets.token_hex(16),
        config_hash=export.config_hash(),
        created_at=now.astimezone(UTC).isoformat(timespec="seconds"),
    )
