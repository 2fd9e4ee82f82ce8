"""Settings of this installation: `include/platform.yaml`, every value overridable as `DATA_EXPORT_<SECTION>__<KEY>`."""

import os
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from data_export.config.connectors import CLOUD_SCHEMES, ConnId, Email, path_inside
from data_export.errors import ConfigError

ROOT = Path(__file__).parents[3]


def customers_dir() -> Path:
    """Folder of the customer files: `DATA_EXPORT_CUSTOMERS_DIR`, or `include/customers` of this checkout."""
    return Path(os.environ.get("DATA_EXPORT_CUSTOMERS_DIR") or ROOT / "include" / "customers")


def platform_file() -> Path:
    """`DATA_EXPORT_PLATFORM_FILE`, or `include/platform.yaml` of this checkout."""
    return Path(os.environ.get("DATA_EXPORT_PLATFORM_FILE") or ROOT / "include" / "platform.yaml")


def state_dir() -> Path:
    """Where local state lives: `DATA_EXPORT_STATE_DIR`, or `.state` of this checkout."""
    return Path(os.environ.get("DATA_EXPORT_STATE_DIR") or ROOT / ".state")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _store_uri(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in CLOUD_SCHEMES:
        raise ValueError(f"{value!r} does not begin with gs://, s3:// or file://")
    path_inside(parts.path)
    return value


class SourceSettings(_Section):
    """Where records and images are read."""

    conn_id: ConnId = Field(default="export_source", description="PostgreSQL connection")
    images_uri: str = Field(description="template of an image's address: {site_id}, {input_id}, {file_extension}")
    images_conn_id: ConnId = Field(default="export_images", description="connection of the image store")

    @field_validator("images_uri")
    @classmethod
    def _template(cls, value: str) -> str:
        filled = value.replace("{site_id}", "s").replace("{input_id}", "i").replace("{file_extension}", ".e")
        if "{" in filled or "}" in filled or "{input_id}" not in value:
            raise ValueError(
                f"{value!r} must hold {{input_id}} and may hold {{site_id}} and {{file_extension}}, nothing else"
            )
        _store_uri(filled)
        return value


class StagingSettings(_Section):
    """Where snapshots and files wait between tasks; all workers must reach it."""

    uri: str = Field(description="gs://, s3:// or file:// folder of the platform's own")
    conn_id: ConnId = Field(default="export_staging")
    keep_failed_days: int = Field(default=7, ge=0, le=365, description="how long a failed run's files are kept")

    @field_validator("uri")
    @classmethod
    def _folder(cls, value: str) -> str:
        _store_uri(value)
        return value if value.endswith("/") else value + "/"


class TargetSettings(_Section):
    """Connections used when a customer file names none."""

    gs_conn_id: ConnId = "export_gs"
    s3_conn_id: ConnId = "export_s3"
    allow_local: bool = Field(default=False, description="whether storage_uri may be file://, for demo and tests")


class MailSettings(_Section):
    """How links are mailed."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    smtp_conn_id: ConnId = "export_smtp"
    sender: Email = Field(alias="from")
    link_ttl_hours: int = Field(default=12, ge=1, le=168)


class LimitSettings(_Section):
    """What a window may ask for."""

    max_window_days: int = Field(default=400, ge=1)
    earliest: date = date(2020, 1, 1)
    settle_minutes: int = Field(default=5, ge=0, le=24 * 60)
    late_after_hours: int = Field(default=2, ge=1)


class AlertSettings(_Section):
    emails: tuple[Email, ...] = ()


class PlatformSettings(BaseSettings):
    """All settings of this installation; read with `load_platform`."""

    model_config = SettingsConfigDict(
        env_prefix="DATA_EXPORT_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    source: SourceSettings
    staging: StagingSettings
    targets: TargetSettings = TargetSettings()
    mail: MailSettings
    limits: LimitSettings = LimitSettings()
    alerts: AlertSettings = AlertSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic-settings'
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, platform_file())


def load_platform(**overrides: Any) -> PlatformSettings:
    """The settings: environment over file over defaults.

    Raises:
        ConfigError: naming file, key, problem and fix.
    """
    path = platform_file()
    if not path.is_file():
        raise ConfigError(f"{path}: no such file: copy include/platform.yaml there, or set DATA_EXPORT_PLATFORM_FILE")
    try:
        return PlatformSettings(**overrides)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False, include_input=False)
        )
        raise ConfigError(f"{path}: {problems}") from None
