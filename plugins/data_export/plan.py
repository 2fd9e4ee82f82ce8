"""What a run has frozen: the customer's configuration, the window, and where everything goes."""

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_export import layout
from data_export.config.models import EXPORT, AnyExport
from data_export.errors import ConfigError
from data_export.limits import Limits, check_window
from data_export.receipt import Extracted, ImagesCopied, SiteReceipt, Transformed
from data_export.window import ExportWindow

SIGNATURE = "signature"
SIGNING_KEY = "DATA_EXPORT_SIGNING_KEY"
_SHORTEST_KEY = 32  # characters; those of 16 random bytes in hexadecimal
_REFREEZE = "clear the run's `prepare` task with everything downstream"
_STAGED = {"data_key": "data.json", "images_key": "images.parquet", "quarantine_key": "quarantine.json"}
_TABLE = re.compile(r"[a-z_]{1,63}")
_MISSING_LIST = "missing-images.txt"


class ExportPlan(BaseModel):
    """A run's first step makes it and the others read it: a file edited meanwhile changes the next run, never this one.

    It travels as a JSON dict without secrets: a literal passphrase is masked (`data_export.config.fields`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(description="stem of the customer file")
    export: AnyExport
    window: ExportWindow
    run_token: str = Field(
        pattern="^[A-Za-z0-9_-]{1,64}$", description="what tells this run's staged files from any other's"
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
        return layout.data_key(site_id, self.export.export_type, self.window, revision)

    def check_site(self, site_id: UUID) -> UUID:
        """
        Raises:
            ConfigError: the site is not one of the plan's.
        """
        if site_id not in self.sites:
            raise self._edited(f"site {site_id}")
        return site_id

    def check_extracted(self, found: Extracted, site_id: UUID) -> Extracted:
        """What an earlier step says, if it names nothing but this run's and site's own staged files.

        It comes by way of XCom, which people may edit. `check_transformed`, `check_images` and `check_delivered` do the
        same for the results of the other steps.

        Raises:
            ConfigError: it names something else.
        """
        self._check_of(found.site_id, site_id)
        if not self._attempt(site_id).fullmatch(found.prefix) or not all(map(_TABLE.fullmatch, found.tables)):
            raise self._edited("the result of `extract`")
        return found

    def check_transformed(self, found: Transformed, site_id: UUID) -> Transformed:
        self._check_of(found.site_id, site_id)
        prefix = found.data_key.rpartition("/")[0]
        named = {key: getattr(found, key) for key in _STAGED}
        right = all(value == f"{prefix}/{_STAGED[key]}" for key, value in named.items() if value is not None)
        if not self._attempt(site_id).fullmatch(prefix) or not right:
            raise self._edited("the result of `transform`")
        return found

    def check_images(self, found: ImagesCopied, site_id: UUID, staging_uri: str) -> ImagesCopied:
        self._check_of(found.site_id, site_id)
        folder, _, name = (found.missing_list or "").removeprefix(staging_uri).rpartition("/")
        if found.missing_list is not None and not (
            found.missing_list.startswith(staging_uri)
            and self._attempt(site_id).fullmatch(folder)
            and name == _MISSING_LIST
        ):
            raise self._edited("the result of `copy_images`")
        return found

    def check_delivered(
        self, found: Sequence[SiteReceipt], target_uri: str | None, staging_uri: str
    ) -> list[SiteReceipt]:
        """`target_uri` is None for a link by mail, whose files are staged."""
        for site in found:
            self.check_site(site.site_id)
            if site.images is not None:
                self.check_images(site.images, site.site_id, staging_uri)
            if target_uri is not None:
                right = site.revision >= 1 and site.uri == target_uri + self.data_key(site.site_id, site.revision)
            else:
                folder, _, name = site.uri.removeprefix(staging_uri).rpartition("/")
                own = site.uri.startswith(staging_uri) and name == _STAGED["data_key"]
                right = own and self._attempt(site.site_id).fullmatch(folder) is not None
            if not right:
                raise self._edited(f"the result of `deliver` for site {site.site_id}")
        if len({site.site_id for site in found}) != len(found):
            raise self._edited("a site that is delivered twice")
        return [*found]

    def _check_of(self, named: UUID, site_id: UUID) -> None:
        if named != self.check_site(site_id):
            raise self._edited(f"a result of site {named} for site {site_id}")

    def _attempt(self, site_id: UUID) -> re.Pattern[str]:
        prefix = layout.staging_site_prefix(self.staging_prefix, site_id, 0).removesuffix("0")
        return re.compile(re.escape(prefix) + "[0-9]{1,6}")

    def _edited(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self.name}: {what} is not of this run's plan: somebody edited an XCom of the run; look in Airflow's "
            f"audit log, then {_REFREEZE}"
        )

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
        except (ValidationError, KeyError) as error:
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


def sign(plan: ExportPlan, dag_id: str, run_id: str) -> dict[str, Any]:
    """The plan as it travels, signed for this run with the first key of `DATA_EXPORT_SIGNING_KEY`.

    Raises:
        ConfigError: there is no key, or a short one.
    """
    value = plan.to_dict()
    return value | {SIGNATURE: _signature(signing_keys()[0], value, dag_id, run_id)}


def verified(value: Mapping[str, Any], dag_id: str, run_id: str) -> ExportPlan:
    """The plan that `sign` wrote down for this run, with any of the keys.

    Raises:
        ConfigError: it has no signature or another one, since somebody edited it, brought it from another run, or
            removed the key that signed it.
    """
    body = {key: part for key, part in value.items() if key != SIGNATURE}
    given = str(value.get(SIGNATURE)).encode()
    matches = [hmac.compare_digest(_signature(key, body, dag_id, run_id).encode(), given) for key in signing_keys()]
    if not any(matches):
        raise ConfigError(
            f"the plan of run {run_id} of {dag_id} does not have this run's signature: its XCom was edited (look in "
            f"Airflow's audit log), or the key that signed it is no longer in {SIGNING_KEY} (put it back, behind the "
            f"new one); otherwise {_REFREEZE}"
        )
    return ExportPlan.from_dict(body)


def accept_unsigned(value: Mapping[str, Any], name: str | None, current: AnyExport | None) -> ExportPlan:
    """The plan that a version without signatures froze, if it says what the customer file of its DAG says now.

    Such a plan decides nothing that the file does not, its window excepted, which whoever may trigger a run may choose.

    Args:
        name: the export of the DAG; None for a DAG of one's own, whose plans are always signed
        current: what its customer file says now

    Raises:
        ConfigError: it says something else.
    """
    plan = ExportPlan.from_dict({**value})
    if name is None or current is None or plan.name != name or plan.export.model_dump() != _masked(current):
        raise ConfigError(
            f"the plan of {plan.name} is not signed, and differs from the customer file: an older version of the "
            f"service made it, or somebody edited its XCom: {_REFREEZE}"
        )
    return plan


def _masked(export: AnyExport) -> dict[str, Any]:
    return EXPORT.validate_python(export.model_dump(mode="json")).model_dump()


def signing_keys() -> list[str]:
    """The keys of `DATA_EXPORT_SIGNING_KEY`, separated by commas; the first signs, all verify.

    Raises:
        ConfigError: there is none, or one that could be guessed.
    """
    keys = [key for key in (part.strip() for part in os.environ.get(SIGNING_KEY, "").split(",")) if key]
    if not keys or any(len(key) < _SHORTEST_KEY for key in keys):
        problem = "has a key that is too short" if keys else "is not set"
        raise ConfigError(
            f"environment variable {SIGNING_KEY} {problem}, so a run cannot prove what it froze: set it on all workers "
            "to the output of `openssl rand -hex 32`, the same on each (docs/security.md)"
        )
    return keys


def _signature(key: str, body: Mapping[str, Any], dag_id: str, run_id: str) -> str:
    signed = json.dumps(["data-export-plan-1", dag_id, run_id, body], sort_keys=True, separators=(",", ":"))
    return hmac.new(key.encode(), signed.encode(), hashlib.sha256).hexdigest()
