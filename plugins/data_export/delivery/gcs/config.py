"""`gs://`: its own keys of `connector_config`, and how its client is made from an Airflow connection."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

from data_export.check.results import CheckResult
from data_export.config.fields import Plain
from data_export.delivery.base import Store
from data_export.delivery.connector import Connections, Scheme

_HOOKS = "airflow.providers.google.cloud.hooks.gcs."
_KEY = (
    "give it a service account's key, all of the JSON as it was downloaded (in private_key line ends are \\n, not "
    "\\\\n), or let it use credentials of the workers' machine"
)


class GcsKeys(BaseModel):
    """The keys that only `gs://` takes."""

    impersonate: Plain | None = Field(
        default=None, min_length=1, description="gs:// only: e-mail of the service account to act as"
    )


def _open(uri: str, conn_id: str, connections: Connections, own: Mapping[str, Any]) -> Store:
    from google.auth.exceptions import DefaultCredentialsError

    from data_export.delivery.gcs.store import GcsStore

    connections.read(conn_id)
    account = own.get("impersonate")
    options = {"gcp_conn_id": conn_id} | ({"impersonation_chain": account} if account else {})

    async def aio_client(session: Any) -> Any:
        with connections.settings_of(conn_id, _KEY, DefaultCredentialsError):
            return await connections.hook(_HOOKS + "GCSAsyncHook", **options).get_storage_client(session)

    def made(method: str) -> Any:
        with connections.settings_of(conn_id, _KEY, DefaultCredentialsError):
            return getattr(connections.hook(_HOOKS + "GCSHook", **options), method)()

    return GcsStore(
        uri,
        client=lambda: made("get_conn"),
        aio_client=aio_client,
        credentials=lambda: made("get_credentials"),
    )


async def _check(target: Any, folders: Sequence[str]) -> list[CheckResult]:
    from data_export.delivery.gcs.check import check_gcs

    return await check_gcs(target)  # what `_open` made


SCHEME = Scheme(
    "gs",
    _open,
    _check,
    own_keys={"impersonate": "put a role into the Airflow connection"},
    console="https://console.cloud.google.com/storage/browser/_details/{bucket}/{key}",
)
