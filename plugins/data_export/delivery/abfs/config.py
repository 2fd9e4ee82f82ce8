"""What `abfs://` says of itself, and how an Airflow connection becomes its client."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from data_export.check.results import CheckResult
from data_export.delivery.base import Destination, Store
from data_export.delivery.connector import Connections, Scheme, require_type
from data_export.delivery.handed_over import Handover

if TYPE_CHECKING:
    from data_export.delivery.abfs.account import Access
    from data_export.delivery.abfs.store import AbfsStore

_ACCOUNT = "[a-z0-9]{3,24}"
_CONTAINER = r"(?=.{3,63}@)[a-z0-9](?:-?[a-z0-9])*"
_HOST = rf"(?P<account>{_ACCOUNT})\.(?:z[0-9]+\.)?(?:blob|dfs)\.[a-z0-9.-]+"
#: How Azure's own tools, Spark and fsspec spell the address of a container.
_ELSEWHERE = (
    rf"https?://{_HOST}/(?P<container>[^/?#]+)(?P<rest>[^?#]*)(?:[?#].*)?",
    rf"(?:abfss?|wasbs?|az|adl)://(?P<container>[^/@]+)@{_HOST}(?P<rest>/[^?#]*)?(?:[?#].*)?",
    rf"(?:abfss|wasbs?|az)://(?P<container>[^/@]+)@(?P<account>{_ACCOUNT})(?P<rest>/[^?#]*)?(?:[?#].*)?",
)
_FIX = "correct its host, login, password and the keys of its extra (sas_token, tenant_id, connection_string)"


def _respelled(uri: str) -> str | None:
    for pattern in _ELSEWHERE:
        if found := re.fullmatch(pattern, uri):
            folder = (found["rest"] or "").strip("/")
            return f"abfs://{found['container']}@{found['account']}/{folder}{'/' if folder else ''}"
    return None


def _open(uri: str, conn_id: str, connections: Connections, own: Mapping[str, Any]) -> Store:
    from data_export.delivery.abfs.store import AbfsStore

    connection = connections.read(conn_id)
    require_type(connection, "wasb")

    def connect() -> "Access":
        from data_export.delivery.abfs.account import access_of

        with connections.settings_of(conn_id, _FIX):
            hook = connections.hook("airflow.providers.microsoft.azure.hooks.wasb.WasbHook", wasb_conn_id=conn_id)
            return access_of(hook.get_conn(), uri, conn_id, connection.extra_dejson)

    return AbfsStore(uri, connect=connect)


async def _check(target: Destination, folders: Sequence[str]) -> list[CheckResult]:
    from data_export.delivery.abfs.check import check_abfs

    return await check_abfs(cast("AbfsStore", target))


def _handover(uri: str, own: Mapping[str, Any]) -> Handover:
    from data_export.check.shared_steps import OPENS
    from data_export.delivery.abfs.check import STEPS

    place, _, folder = uri.partition("://")[2].partition("/")
    container, _, account = place.partition("@")
    pattern = shlex.quote(f"{folder}*/data/*")
    return Handover(
        (OPENS, *STEPS),
        Path(__file__).parent / "templates" / "handover.md",
        {"container": container, "account": account},
        # az wants the folder to be there, and gives up at a file that is.
        fetch="mkdir -p {folder} && "
        f"az storage blob download-batch --account-name {account} --source {container} --pattern {pattern} "
        "--destination {folder} --overwrite --auth-mode login",
        placeholder="OUR_APPLICATION_ID",
    )


SCHEME = Scheme(
    "abfs",
    _open,
    _check,
    _handover,
    bucket=f"{_CONTAINER}@{_ACCOUNT}",
    bucket_rule="write abfs://container@account/folder/, the container in 3 to 63 of a-z, 0-9 and single '-', the "
    "account in 3 to 24 of a-z and 0-9",
    respelled=_respelled,
    also_called=("abfss", "azure", "azure_blob", "azure_blob_storage", "blob", "wasb", "wasbs", "adls"),
)
