"""From the Airflow connection of the source to what libpq takes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.sdk import Connection
from airflow.sdk.log import mask_secret

from data_export.delivery.connector import require_type
from data_export.errors import ConfigError, CredentialsUnavailable
from data_export_airflow.connections.clients import connection
from data_export_airflow.connections.faults import settings_of

_SECRETS = ("password", "sslpassword", "oauth_client_secret")
_NAME = re.compile(r"[a-z_]+")
_HOST_AND_PORT = re.compile(r"([^:/@][^:]*):(\d+)")


def source_dsn(conn_id: str) -> str:
    """libpq's `key=value` string of the source, with its password: never to be logged.

    Every parameter of libpq may be in the connection's extra, or after the `?` of its URI, and goes before the
    connection's own fields. What libpq does not know it refuses by name, when it connects. The host may be a folder of
    sockets, or several, as `a,b:5433`.

    Raises:
        ConfigError: the connection is missing, or holds what no parameter can be.
    """
    found = connection(conn_id)
    require_type(found, "postgres", "postgresql")
    with settings_of(conn_id, "correct its host, port, login and extra"):
        parameters = _fields(conn_id, found) | _extra(conn_id, found)
    for name in _SECRETS:
        if parameters.get(name):
            mask_secret(parameters[name])
    if zero := [name for name, value in parameters.items() if "\0" in value]:
        raise ConfigError(f"Airflow connection {conn_id!r} has a NUL character in its {zero[0]}: remove it")
    return " ".join(f"{name}={_quoted(value)}" for name, value in parameters.items())


def source_server(conn_id: str) -> tuple[str, str, str]:
    """Host, port and database of the source as libpq gets them, of several hosts the first; empty: libpq's default."""
    found = connection(conn_id)
    host, port = _hosts(conn_id, found.host or "", str(found.port or ""))
    given = {"host": host, "port": port, "user": found.login or "", "dbname": found.schema or ""}
    given |= _extra(conn_id, found)
    host, port = (given[name].partition(",")[0] for name in ("host", "port"))
    return host, port, given["dbname"] or given["user"]


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fields(conn_id: str, found: Connection) -> dict[str, str]:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    login, password, port = found.login, found.password, found.port
    if found.extra_dejson.get("iam"):  # a token of AWS or Azure in place of a password
        with _of_amazon(conn_id):
            login, password, port = PostgresHook(postgres_conn_id=conn_id).get_iam_token(found)
    hosts, ports = _hosts(conn_id, found.host or "", str(port or ""))
    fields = {"host": hosts, "port": ports, "user": login, "password": password, "dbname": found.schema}
    return {name: value for name, value in fields.items() if value}


@contextmanager
def _of_amazon(conn_id: str) -> Iterator[None]:
    """Around asking AWS for a token.

    Raises:
        ConfigError: a setting of aws_conn_id is missing.
        CredentialsUnavailable: no credentials, or AWS does not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoRegionError, PartialCredentialsError, ProfileNotFound

    try:
        with settings_of(
            conn_id,
            "correct region_name, profile and key of the connection named in aws_conn_id",
            *(NoRegionError, PartialCredentialsError, ProfileNotFound),
        ):
            yield
    except (BotoCoreError, ClientError) as error:
        raise CredentialsUnavailable(
            f"Airflow connection {conn_id!r}: AWS gives no token for its login ({type(error).__name__}): look at the "
            "connection named in aws_conn_id if no try finds one"
        ) from None


def _hosts(conn_id: str, text: str, port: str) -> tuple[str, str]:
    """libpq's list of hosts and list of ports."""
    if "[" in text or "]" in text:
        raise ConfigError(f"Airflow connection {conn_id!r} has brackets in its host: write an IPv6 address without")
    if not any(mark in text for mark in ",:"):
        return text, port
    found = [
        (match[1], match[2]) if (match := _HOST_AND_PORT.fullmatch(host)) else (host, port) for host in text.split(",")
    ]
    return ",".join(host for host, _ in found), ",".join(port for _, port in found)


def _extra(conn_id: str, found: Connection) -> dict[str, str]:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    extra: dict[str, Any] = found.extra_dejson
    query = extra.get("sqlalchemy_query") or {}
    of_libpq = {name: value for name, value in extra.items() if name not in PostgresHook.ignored_extra_options}
    return {name: _text(conn_id, name, value) for name, value in (query | of_libpq).items() if value is not None}


def _text(conn_id: str, name: str, value: object) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"Airflow connection {conn_id!r} has {name!r} in its extra, which libpq does not know: remove it"
        )
    if isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str | int | float):
        raise ConfigError(f"Airflow connection {conn_id!r} has a {name} in its extra that is no text: put it in quotes")
    return str(value)
