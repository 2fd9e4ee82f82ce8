"""Delivers any file as an export's are delivered: verified, complete or absent, safe to repeat."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, unquote

from data_export.config.fields import path_inside, quoted_address
from data_export.delivery.connector import IfExists
from data_export.delivery.registry import SCHEMES
from data_export.errors import ConfigError
from data_export_airflow.operators.base import DELIVERY_POOL, LONGEST_TRANSFER, ExportOperator, Result
from data_export_airflow.operators.links import DeliveredFileLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from data_export.pipeline.file import FilePlace

_SERVER = "sftp"  # the one scheme here that is no object store: the server is in the connection
_EXAMPLES = (
    *(f"{name}://{'bucket' if scheme.has_buckets else ''}/folder/file.json" for name, scheme in SCHEMES.items()),
    f"{_SERVER}:///folder/file.json (the server is in the connection)",
)


class DeliverFileOperator(ExportOperator):
    """Copies one file from and to Cloud Storage, S3, Azure, an SFTP server or a folder of the worker.

    A reader of the target sees the whole file or none, its size and checksum are confirmed by the target (by an SFTP
    server its size alone), and the same bytes are found there and not sent again. Addresses name a file:
    `gs://bucket/folder/file`, `s3://bucket/folder/file`, `abfs://container@account/folder/file`, `sftp:///folder/file`
    (`sftp:///~/file` below the user's login folder; the server is in the connection), and `file:///folder/file`, which
    is on the disk of whatever worker runs the task.

    Returns `uri`, `outcome` (created, unchanged, replaced, kept or revision), `revision`, `bytes` and `sha256`.

    :param source_uri: address of the file (templated)
    :param target_uri: address that it gets (templated)
    :param source_conn_id: Airflow connection for the source; None for `file://` (templated)
    :param target_conn_id: Airflow connection for the target; None for `file://` (templated)
    :param if_exists: what happens to other content at the target: `replace` it, `keep` it, or deliver a `revision`,
        `name.r2.ext`, next to it
    """

    template_fields: Sequence[str] = ("source_uri", "target_uri", "source_conn_id", "target_conn_id")
    operator_extra_links = (DeliveredFileLink(),)
    default_pool: ClassVar[str] = DELIVERY_POOL

    def __init__(
        self,
        *,
        source_uri: Any,
        target_uri: Any,
        source_conn_id: Any = None,
        target_conn_id: Any = None,
        if_exists: IfExists = "replace",
        execution_timeout: timedelta | None = LONGEST_TRANSFER,
        **kwargs: Any,
    ) -> None:
        super().__init__(execution_timeout=execution_timeout, **kwargs)
        self.source_uri = source_uri
        self.target_uri = target_uri
        self.source_conn_id = source_conn_id
        self.target_conn_id = target_conn_id
        self.if_exists = if_exists
        self.delivered_uri = ""

    def execute(self, context: "Context") -> Result:
        from data_export.pipeline.file import deliver_file  # late: parsing a DAG needs none of what moves data
        from data_export_airflow.connections.clients import AirflowConnections, has_console
        from data_export_airflow.telemetry.lineage import of_file

        source = _place("source", self.source_uri, self.source_conn_id)
        target = _place("target", self.target_uri, self.target_conn_id)
        delivered = deliver_file(source, target, self.if_exists)
        self.lineage = of_file(source.root.uri + source.key, delivered["uri"], delivered["bytes"])
        is_shown = has_console(delivered["uri"], AirflowConnections(), self.target_conn_id)
        self.delivered_uri = delivered["uri"] if is_shown else ""
        return delivered


def _place(which: str, uri: Any, conn_id: Any) -> "FilePlace":
    """The file that an address names.

    Raises:
        ConfigError: it names none, or its connection is missing.
    """
    from data_export.pipeline.file import FilePlace
    from data_export_airflow.connections.clients import sftp_folder, store

    shown = f"{which}_uri={quoted_address(str(uri))}"
    scheme, _, rest = str(uri).partition("://")
    kind = SCHEMES.get(scheme)
    of_this_machine = kind is not None and not kind.has_buckets
    folder, _, key = (unquote(rest) if of_this_machine else rest).rpartition("/")
    server, _, path = folder.partition("/")
    if not (kind or scheme == _SERVER) or not key or bool(server) != (kind is not None and kind.has_buckets):
        raise ConfigError(f"{shown} is not the address of a file: write one such as {', '.join(_EXAMPLES)}")
    try:
        path_inside(path)
    except ValueError as error:
        raise ConfigError(f"{which}_uri: {error}") from None
    if of_this_machine:
        return FilePlace(store(f"{scheme}:///{quote(path)}/", ""), key)
    if not conn_id:
        raise ConfigError(f"{shown} needs an Airflow connection: give its id in {which}_conn_id")
    if kind is None:
        below_login = path == "~" or path.startswith("~/")
        return FilePlace(sftp_folder(conn_id, path[2:] if below_login else f"/{path}"), key)
    return FilePlace(store(f"{scheme}://{folder}/", conn_id), key)
