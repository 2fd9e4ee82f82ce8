"""Settings of this installation: `include/platform.yaml`, every value overridable as `DATA_EXPORT_<SECTION>__<KEY>`."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, create_model, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from data_export.config.fields import ENV_PREFIX, ConnId, Email, Flag, Whole, plain, quoted
from data_export.config.problems.explain import explain, keys_of, model_at, near_key, unknown_key
from data_export.config.problems.problems import MOST_PROBLEMS
from data_export.config.reading.file_text import FILE_OF_ALL, is_settled, stamp
from data_export.config.reading.yaml_lines import Document, read_document, spell
from data_export.config.sections import (
    AlertSettings,
    AuditSettings,
    LimitSettings,
    MaintenanceSettings,
    NetworkSettings,
    Section,
)
from data_export.delivery.connector import LinkHours
from data_export.delivery.registry import SCHEMES, StoreUri, store_uri
from data_export.errors import ConfigError

ROOT = Path(__file__).parents[3]
_PREFIX = "DATA_EXPORT_"


def customers_dir() -> Path:
    """Folder of the customer files: `DATA_EXPORT_CUSTOMERS_DIR`, or `include/customers` of this checkout."""
    return Path(os.environ.get("DATA_EXPORT_CUSTOMERS_DIR") or ROOT / "include" / "customers")


def platform_file() -> Path:
    """`DATA_EXPORT_PLATFORM_FILE`, or `include/platform.yaml` of this checkout."""
    return Path(os.environ.get("DATA_EXPORT_PLATFORM_FILE") or ROOT / "include" / "platform.yaml")


def state_dir() -> Path:
    """Where local state lives: `DATA_EXPORT_STATE_DIR`, or `.state` of this checkout."""
    return Path(os.environ.get("DATA_EXPORT_STATE_DIR") or ROOT / ".state")


def shown(path: Path) -> str:
    """The path as messages name it: as seen from the checkout where it is in there."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def place_of(*keys: str) -> str:
    """Where a setting is changed: its environment variable, or its section's that holds it, else platform.yaml."""
    variables = {name.upper(): value for name, value in os.environ.items()}
    variable, section = (_PREFIX + "__".join(part).upper() for part in (keys, keys[:1]))
    if variable not in variables and keys[1:] and keys[1] in _object(variables.get(section, "")):
        variable = section
    return f"environment variable {variable}" if variable in variables else shown(platform_file())


def _object(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        if isinstance(value := json.loads(text), dict):
            return value
    return {}


class SourceSettings(Section):
    """Where records and images are read."""

    conn_id: ConnId = Field(default="export_source", description="PostgreSQL connection")
    images_uri: str = Field(description="template of an image's address: {site_id}, {input_id}, {file_extension}")
    images_conn_id: ConnId = Field(default="export_images", description="connection of the image store")
    row_security: Literal["refuse", "apply"] = Field(
        default="refuse",
        description="what row-level security of the source may do: refuse ends an export that a policy would thin, "
        "apply lets policies choose the rows",
    )
    late_commit_minutes: Whole = Field(
        default=10,
        ge=0,
        le=120,
        description="how long extract waits for transactions that were writing at the source when it began",
    )

    @field_validator("images_uri")
    @classmethod
    def _template(cls, value: str) -> str:
        filled = value.replace("{site_id}", "s").replace("{input_id}", "i").replace("{file_extension}", ".e")
        if "{" in filled or "}" in filled or "{input_id}" not in value:
            raise ValueError(
                f"{quoted(value)} must hold {{input_id}} and may hold {{site_id}} and {{file_extension}}, nothing else"
            )
        store_uri(filled)
        return value


class StagingSettings(Section):
    """Where snapshots and files wait between tasks; all workers must reach it."""

    uri: StoreUri = Field(description="gs://, s3://, abfs:// or file:// folder of the platform's own")
    conn_id: ConnId = Field(default="export_staging", description="connection of the staging area")
    keep_failed_days: Whole = Field(default=7, ge=1, le=365, description="how long a failed run's files are kept")


class _Targets(Section):
    """Connections used when a customer file names none."""

    allow_local: Flag = Field(default=False, description="whether storage_uri may be file://, for demo and tests")
    principals: dict[ConnId, Annotated[str, AfterValidator(plain)]] = Field(
        default_factory=dict,
        description="who customers grant rights to, by the connection that acts: for the hand-over sheet",
    )
    keys_folder: Annotated[str, AfterValidator(plain)] = Field(
        default="/opt/airflow/keys", description="folder of our SFTP keys, as workers see it"
    )
    allow_http: Flag = Field(
        default=False, description="whether a target's endpoint on another machine may be http://, without TLS"
    )

    def conn_id_of(self, scheme: str) -> str:
        """The connection for targets of this scheme; none is needed for `file://`."""
        return str(getattr(self, f"{scheme}_conn_id", ""))


_CONN_IDS: dict[str, Any] = {
    f"{name}_conn_id": (ConnId, Field(default=f"export_{name}", description=f"connection for {name}:// targets"))
    for name, scheme in SCHEMES.items()
    if scheme.has_buckets
}
if TYPE_CHECKING:
    TargetSettings = _Targets
else:
    TargetSettings = create_model("TargetSettings", __base__=_Targets, __doc__=_Targets.__doc__, **_CONN_IDS)


class MailSettings(Section):
    """How links are mailed."""

    model_config = ConfigDict(populate_by_name=True)

    smtp_conn_id: ConnId = Field(default="export_smtp", description="connection of the mail server")
    sender: Email = Field(alias="from", description="sender of the mails")
    platform: Annotated[str, AfterValidator(plain)] = Field(
        default="", max_length=80, description="name of the platform, in mails to customers"
    )
    contact: Email | None = Field(default=None, description="whom customers ask, in mails to them")
    link_ttl_hours: LinkHours = Field(default=12, description="hours a link works unless a customer file says")


class PlatformSettings(BaseSettings):
    """All settings of this installation; read with `load_platform`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    source: SourceSettings = Field(description="where records and images are read")
    staging: StagingSettings = Field(description="where files wait between tasks")
    targets: TargetSettings = Field(default=TargetSettings(), description="connections of customers' targets")
    mail: MailSettings = Field(description="how links are mailed")
    limits: LimitSettings = Field(default=LimitSettings(), description="what a window may ask for")
    network: NetworkSettings = Field(default=NetworkSettings(), description="what the service may connect to")
    alerts: AlertSettings = Field(default=AlertSettings(), description="who is alerted")
    maintenance: MaintenanceSettings = Field(default=MaintenanceSettings(), description="what is cleaned, and when")
    audit: AuditSettings = Field(default=AuditSettings(), description="what is looked for at targets, and when")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic-settings'
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file_settings = InitSettingsSource(settings_cls, _document().values)
        return init_settings, env_settings, file_settings


def _document() -> Document:
    return read_document(platform_file(), typed_below="kwargs", size=FILE_OF_ALL)


#: What was read last, after all that it depends on.
_read_last: tuple[object, PlatformSettings] | None = None


def load_platform(**overrides: Any) -> PlatformSettings:
    """The settings: environment over file over defaults.

    What is as it was when this process, or the one that it is a fork of, read it last costs one `stat`.

    Raises:
        ConfigError: naming file and line, or environment variable, key, problem and fix.
    """
    global _read_last
    stamped = stamp(path := platform_file())
    read = path, stamped, {name: text for name, text in os.environ.items() if name.upper().startswith(_PREFIX)}
    if _read_last is not None and _read_last[0] == read and not overrides:
        return _read_last[1]
    settings = _read(path, overrides)
    _read_last = (read, settings) if is_settled(stamped) and not overrides else _read_last
    return settings


def _read(path: Path, overrides: Mapping[str, Any]) -> PlatformSettings:
    fix = "copy include/platform.yaml there, or set DATA_EXPORT_PLATFORM_FILE"
    with suppress(OSError):  # a disk that does not answer says so when the file is read
        if not path.exists():
            raise ConfigError(f"{path}: no such file: {fix}")
    problems = _unknown_sections()
    try:
        settings = PlatformSettings(**overrides)
    except ValidationError as verdict:
        document = _document()
        errors = _each_once(verdict.errors(include_url=False))
        problems += [_explained(error, document) for error in errors[:MOST_PROBLEMS]]
    except SettingsError as error:
        fix = "write lists and whole sections in JSON, e.g. '[\"data-platform@platform.example\"]'"
        raise ConfigError(f"environment variable {_PREFIX}<SECTION>__<KEY>: {error}: {fix}") from None
    if problems:
        raise ConfigError("; ".join(problems))
    return settings


def _unknown_sections() -> list[str]:
    """Of variables that are written as a setting's, and would be read by nobody."""
    known = list(keys_of(PlatformSettings))
    written = sorted(name.upper() for name in os.environ if name.upper().startswith(_PREFIX) and "__" in name)
    sections = {name: name.removeprefix(_PREFIX).partition("__")[0].lower() for name in written}
    return [
        f"environment variable {name}: {section}: {unknown_key(section, known)}"
        for name, section in sections.items()
        if section not in known and not name.startswith(ENV_PREFIX)
    ]


def _each_once(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without the missing keys that are there, misspelt."""
    misspelt = [error["loc"] for error in errors if error["type"] == "extra_forbidden"]
    meant = {(*at, near_key(key, list(keys_of(model_at(PlatformSettings, tuple(at)))))) for *at, key in misspelt}
    return [error for error in errors if error["type"] != "missing" or error["loc"] not in meant]


def _explained(error: ErrorDetails, document: Document) -> str:
    message = explain(error, PlatformSettings, error["loc"])
    place = place_of(*map(str, error["loc"][:2]))
    if place.startswith("environment variable"):
        return f"{place}: {spell(error['loc'])}: {message}"
    return str(document.problem(error["loc"], message))
