"""`gs://`: its own keys of `connector_config`, and how its client is made from an Airflow connection."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from data_export.check.results import CheckResult
from data_export.config.fields import quoted_address
from data_export.delivery.base import Store
from data_export.delivery.connector import Connections, Scheme, in_a_cloud, require_type
from data_export.delivery.handed_over import Handover
from data_export.errors import CredentialsUnavailable

_HOOKS = "airflow.providers.google.cloud.hooks.gcs."
_KEY = (
    "give it a service account's key, all of the JSON as it was downloaded (in private_key line ends are \\n, not "
    "\\\\n), or let it use credentials of the workers' machine"
)
#: Where a connection's extra has a key of its own.
_KEYS = ("keyfile_dict", "key_path", "key_secret_name", "credential_config_file")


# It becomes a part of an address at Google: no other character may lead that to another account than it seems to name.
_ACCOUNT = re.compile(r"(?=.{3,254}$)[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


def _account(value: str) -> str:
    if not _ACCOUNT.fullmatch(value):
        raise ValueError(
            f"{quoted_address(value)} is not a service account: write the e-mail of one, such as "
            "customer-acme@project.iam.gserviceaccount.com"
        )
    return value


class GcsKeys(BaseModel):
    """The keys that only `gs://` takes."""

    impersonate: Annotated[str, AfterValidator(_account)] | None = Field(
        default=None, min_length=1, description="gs:// only: e-mail of the service account to act as"
    )


def _open(uri: str, conn_id: str, connections: Connections, own: Mapping[str, Any]) -> Store:
    from google.auth.exceptions import DefaultCredentialsError

    from data_export.delivery.gcs.store import GcsStore

    found = connections.read(conn_id)
    require_type(found, "google_cloud_platform")
    emulator = "STORAGE_EMULATOR_HOST"
    connections.require_https(conn_id, emulator, os.environ.get(emulator, ""))
    extra = found.extra_dejson
    has_key = any(extra.get(f"{prefix}{key}") for prefix in ("", "extra__google_cloud_platform__") for key in _KEYS)
    account = own.get("impersonate")
    options = {"gcp_conn_id": conn_id} | ({"impersonation_chain": account} if account else {})

    async def aio_client(session: Any) -> Any:
        with connections.settings_of(conn_id, _KEY, DefaultCredentialsError), _of_machine(conn_id, has_key):
            return await connections.hook(_HOOKS + "GCSAsyncHook", **options).get_storage_client(session)

    def made(method: str) -> Any:
        with connections.settings_of(conn_id, _KEY, DefaultCredentialsError), _of_machine(conn_id, has_key):
            return getattr(connections.hook(_HOOKS + "GCSHook", **options), method)()

    return GcsStore(
        uri,
        client=lambda: made("get_conn"),
        aio_client=aio_client,
        credentials=lambda: made("get_credentials"),
    )


@contextmanager
def _of_machine(conn_id: str, has_key: bool) -> Iterator[None]:
    """A metadata server that is slow looks like a machine without credentials; the next try may find it awake."""
    from google.auth.exceptions import DefaultCredentialsError, TransportError

    try:
        yield
    except (DefaultCredentialsError, TransportError) as error:
        if isinstance(error, DefaultCredentialsError) and (has_key or not in_a_cloud()):
            raise
        raise CredentialsUnavailable(
            f"Airflow connection {conn_id!r}: Google's metadata or token server does not answer "
            f"({type(error).__name__}): if no try finds it, give the workers' machine a service account, or the "
            "connection a key"
        ) from None


async def _check(target: Any, folders: Sequence[str]) -> list[CheckResult]:
    from data_export.delivery.gcs.check import check_gcs

    return await check_gcs(target)  # what `_open` made


def _handover(uri: str, own: Mapping[str, Any]) -> Handover:
    from data_export.check.shared_steps import OPENS
    from data_export.delivery.gcs.check import RIGHTS, STEPS

    return Handover(
        (OPENS, *STEPS),
        Path(__file__).parent / "templates" / "handover.md",
        {"rights": RIGHTS},
        fetch=f"gcloud storage rsync --recursive --exclude='.*/inputs/.*' {shlex.quote(uri)} {{folder}}",
        principal=own.get("impersonate"),
        placeholder="OUR_SERVICE_ACCOUNT",
    )


SCHEME = Scheme(
    "gs",
    _open,
    _check,
    _handover,
    own_keys={"impersonate": "put a role into the Airflow connection"},
    console="https://console.cloud.google.com/storage/browser/_details/{bucket}/{key}",
    also_called=("gcs", "google", "google_cloud", "google_cloud_storage"),
)
