"""Faults of an Airflow connection's own settings, in words that name it."""

import json
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError, ErrorType

from data_export.config.fields import quoted_address
from data_export.delivery.connector import require_type
from data_export.errors import ConfigError, CredentialsUnavailable, DataExportError

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
#: What a secrets backend raises over an entry that it has and cannot read: the entry is malformed.
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, NotImplementedError, AirflowException)
_LOCAL = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]*)?(/.*)?", re.IGNORECASE)
_ABSENT = (ErrorType.CONNECTION_NOT_FOUND, ErrorType.VARIABLE_NOT_FOUND)
_REFUSED = re.compile(
    r"Access_?Denied|Forbidden|Unauthori[sz]ed|Permission_?Denied|Unauthenticated|UnrecognizedClient", re.IGNORECASE
)


def unread(conn_id: str, error: Exception) -> DataExportError:
    """Airflow does not say whether a connection is missing, malformed or out of reach, so we look."""
    if fault := unasked("connection", conn_id):
        return fault
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


def unasked(kind: Literal["connection", "variable"], name: str) -> DataExportError | None:
    """The fault of a secrets backend over this entry; None where each says that it has none, or a malformed one.

    Airflow passes over every fault of a backend, an outage too, and says then that there is no such entry. So each is
    asked once more, and its fault is looked at. Its words are left out: they may repeat a token.
    """
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded  # late: parsing needs none of it

    shown = f"Airflow {kind} {name!r}"
    try:
        backends = ensure_secrets_backend_loaded()
    except Exception as error:
        fix = "correct [secrets] backend and backend_kwargs, or wait until the backend can be reached"
        return CredentialsUnavailable(f"{shown} cannot be read: no secrets backend loads ({_named(error)}): {fix}")
    for backend in backends:
        try:
            found = _ask(backend, kind, name)
        except _MALFORMED:
            continue
        except Exception as error:
            where = f"{shown} cannot be read: {type(backend).__name__}"
            if isinstance(error, PermissionError) or _REFUSED.search(_named(error)):
                return ConfigError(f"{where} refuses it ({_named(error)}): grant the workers the right to read it")
            return CredentialsUnavailable(
                f"{where} does not answer ({_named(error)}), so nobody knows whether it is there"
            )
        if found is not None:
            return CredentialsUnavailable(f"{shown} was not found at first and is there now: the next try reads it")
    return None


def _ask(backend: Any, kind: Literal["connection", "variable"], name: str) -> object:
    from airflow.sdk.execution_time.secrets import ExecutionAPISecretsBackend

    if not isinstance(backend, ExecutionAPISecretsBackend):
        return backend.get_connection(name) if kind == "connection" else backend.get_variable(name)
    # That backend swallows the API server's faults itself.
    from airflow.sdk.execution_time.comms import ErrorResponse, GetConnection, GetVariable
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    answer = SUPERVISOR_COMMS.send(GetConnection(conn_id=name) if kind == "connection" else GetVariable(key=name))
    if not isinstance(answer, ErrorResponse):
        return answer
    if answer.error in _ABSENT:
        return None
    raise AirflowRuntimeError(answer)


def _named(error: Exception) -> str:
    """The class of a fault, and the code that a cloud's or Airflow's answer has."""
    if isinstance(error, AirflowRuntimeError):
        return str(error.error.error.value)
    answer = getattr(error, "response", None)
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    return type(error).__name__ + (f" {code}" if isinstance(code, str) and code.isidentifier() else "")


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


def check_https(found: Connection) -> None:
    """Of the host, and of every address in the extra, see `require_https`."""
    host = {"host": found.host} if "://" in (found.host or "") else {}
    for key, address in endpoints(host | found.extra_dejson):
        require_https(found.conn_id, key, address)


def require_https(conn_id: str, key: str, address: str) -> None:
    """
    Args:
        key: what the address comes from.

    Raises:
        ConfigError: a customer's data would go to another machine without TLS.
    """
    scheme, _, rest = address.strip().partition("://")
    if scheme.lower() == "http" and not _LOCAL.fullmatch(rest):
        raise ConfigError(
            f"Airflow connection {conn_id!r} has {key}: {quoted_address(address)}, without TLS: write "
            "https://, or set targets.allow_http in platform.yaml for a network that you trust"
        )


def endpoints(extra: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and address of each server that a connection's extra names."""
    for key, value in extra.items():
        if isinstance(value, dict):
            yield from endpoints(value)
        elif isinstance(value, str) and key.endswith("connection_string"):  # of Azure: Key=value;Key=value
            named = dict(part.partition("=")[::2] for part in value.split(";"))
            yield key, named.get("BlobEndpoint") or f"{named.get('DefaultEndpointsProtocol', 'https')}://{key}"
        elif isinstance(value, str) and ("endpoint" in key.lower() or key in ("host", "sas_token")):
            yield key, value


#: What a person means by a text that Airflow takes for true, as any that is not empty; in a URI all values are texts.
_NO = {"", "0", "f", "false", "n", "no", "none", "null", "off"}


def check_smtp(found: Connection) -> None:
    """
    Raises:
        ConfigError: another type, no host, half a login, with which the hook would not log in, a server whose
            certificate would not be verified: links to customers' data pass it, and the password; or a word that says
            to encrypt, which the hook takes for the contrary, as any text that is not empty.
    """
    require_type(found, "smtp", "email")
    name = f"Airflow connection {found.conn_id!r}"
    if not found.host:
        raise ConfigError(f"{name} has no host: add the mail server's name")
    if bool(found.login) != bool(found.password) and "auth_type" not in found.extra_dejson:
        raise ConfigError(f"{name} has half a login: give login and password, or neither")
    for key in ("disable_tls", "disable_ssl"):
        value = found.extra_dejson.get(key)
        if isinstance(value, str) and value and value.strip().lower() in _NO:
            raise ConfigError(
                f"{name} has {key} as the text {value!r}, which Airflow takes for true: leave it out, or write true"
            )
    if found.extra_dejson.get("ssl_context") == "none":
        raise ConfigError(
            f"{name} has ssl_context: none: certificates are always verified: remove it, and add the authority of "
            "the mail server's to the file of all authorities that SSL_CERT_FILE names on the workers"
        )


@contextmanager
def settings_of(conn_id: str, fix: str, *refused: type[Exception]) -> Iterator[None]:
    """Around what makes a client: a setting that it does not take is a ConfigError, since no retry helps.

    The library's words are left out: they may repeat a key or password.

    Args:
        refused: what this library raises about settings, apart from the usual classes.
    """
    try:
        yield
    except (DataExportError, ssl.SSLError):  # an untrusted certificate is a ValueError too, and no setting
        raise
    except (*_OF_SETTINGS, *refused) as error:
        raise ConfigError(f"Airflow connection {conn_id!r} cannot be used ({type(error).__name__}): {fix}") from None
