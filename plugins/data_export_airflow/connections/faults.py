"""Faults of an Airflow connection's own settings, in words that name it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException

from data_export.errors import ConfigError, DataExportError

#: What providers and their libraries raise about a setting before they ask a server anything.
_OF_SETTINGS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    FileNotFoundError,
    AirflowException,
)


def unread(conn_id: str, error: Exception) -> ConfigError:
    """Airflow does not say whether a connection is missing or malformed; where it is in the environment we can see."""
    variable, kind = f"AIRFLOW_CONN_{conn_id.upper()}", type(error).__name__
    if os.environ.get(variable):
        return ConfigError(
            f"Airflow connection {conn_id!r} cannot be parsed ({kind}): correct the environment variable {variable}: a "
            "JSON object with known keys, or a URI whose special characters are percent-encoded; the port is a number"
        )
    return ConfigError(
        f"Airflow connection {conn_id!r} is missing or cannot be parsed ({kind}): add it with `airflow connections add "
        f"{conn_id} ...`, as {variable}, or in the secrets backend; where it is there, correct its JSON or URI"
    )


def check_extra(conn_id: str, extra: str | None) -> None:
    """
    Raises:
        ConfigError: the extra is there, but is no JSON object. Airflow itself takes what it cannot read as nothing.
    """
    try:
        is_object = not extra or isinstance(json.loads(extra), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise ConfigError(
            f"Airflow connection {conn_id!r} has an extra that is no JSON object: write it as "
            '{"key": "value"}, with double quotes'
        )


def check_smtp(found: Connection) -> None:
    """
    Raises:
        ConfigError: no host, or half a login, with which the hook would not log in.
    """
    name = f"Airflow connection {found.conn_id!r}"
    if not found.host:
        raise ConfigError(f"{name} has no host: add the mail server's name")
    if bool(found.login) != bool(found.password) and "auth_type" not in found.extra_dejson:
        raise ConfigError(f"{name} has half a login: give login and password, or neither")


@contextmanager
def settings_of(conn_id: str, fix: str, *refused: type[Exception]) -> Iterator[None]:
    """Around what makes a client: a setting that it does not take is a ConfigError, since no retry helps.

    The library's words are left out: they may repeat a key or password.

    Args:
        refused: what this library raises about settings, apart from the usual classes.
    """
    try:
        yield
    except DataExportError:
        raise
    except (*_OF_SETTINGS, *refused) as error:
        raise ConfigError(f"Airflow connection {conn_id!r} cannot be used ({type(error).__name__}): {fix}") from None
