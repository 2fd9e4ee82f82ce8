"""A running Airflow, asked over HTTP by commands on a machine that does not reach its database.

`DATA_EXPORT_AIRFLOW_URL` names its API server. Who asks is the user of `DATA_EXPORT_AIRFLOW_TOKEN`, a token of its API,
or of `DATA_EXPORT_AIRFLOW_USERNAME` and `DATA_EXPORT_AIRFLOW_PASSWORD`, who are given one each time.
Nothing of Airflow is imported.
"""

import os
import re
from collections.abc import Set
from ipaddress import ip_address
from socket import getaddrinfo
from typing import TYPE_CHECKING, Any

from data_export.errors import ConfigError
from data_export.wording import harmless

if TYPE_CHECKING:
    import httpx

URL = "DATA_EXPORT_AIRFLOW_URL"
_TOKEN, _USERNAME, _PASSWORD = (f"DATA_EXPORT_AIRFLOW_{name}" for name in ("TOKEN", "USERNAME", "PASSWORD"))
_A_TOKEN = re.compile(r"[\w.~+/=-]+", re.ASCII)
#: By the last part of a path, what the page's answer has. Another service's has not.
_KEYS = {"status": {"as_of", "scheduler", "late_unknown", "exports"}, "delivered": {"files"}, "audit": {"words"}}
_SECONDS = 65.0  # the page itself gives up after 60


def airflow_url() -> str | None:
    """The address of the Airflow to ask; None where its database is asked instead."""
    return os.environ.get(URL, "").strip().rstrip("/") or None


def ask(url: str, path: str, unknown: str = "", **query: str | None) -> Any:
    """The JSON of `GET <url>/data-exports/api/<path>`.

    Args:
        unknown: what to say where the page knows nothing of that name; default: its own words.

    Raises:
        ConfigError: nobody answers there, or refuses, or it is no Airflow with the page Data exports; or the address
            is such that passwords are not for it.
    """
    import httpx

    try:
        address = httpx.URL(url)
        is_plain = address.scheme == "http"
        if is_plain:
            _require_private(url, address.host, address.port)
        # Redirects are not followed: the token is for this address alone. A proxy would read what is not encrypted.
        with httpx.Client(timeout=_SECONDS, headers={"Accept": "application/json"}, trust_env=not is_plain) as client:
            client.headers["Authorization"] = f"Bearer {_token(client, url)}"
            given = {name: value for name, value in query.items() if value is not None}
            answer = client.get(f"{url}/data-exports/api/{path}", params=given)
            return _json(url, answer, _KEYS[path.rpartition("/")[2]], unknown)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last of a name that cannot be one
        words = harmless(error, 200) or type(error).__name__
        raise ConfigError(f"Airflow at {_shown(url)} does not answer ({words}): start it, or correct {URL}") from None


def _require_private(url: str, host: str, port: int | None) -> None:
    """
    Raises:
        ConfigError: a password or token would leave the private network without TLS, or nobody knows the name.
    """
    try:
        found = getaddrinfo(host, port)
    except OSError as error:
        words = error.strerror or type(error).__name__
        raise ConfigError(f"{URL} is {_shown(url)}, a name not known here ({words}): correct it") from None
    if any(ip_address(one[4][0]).is_global for one in found):
        raise ConfigError(
            f"{URL} is {_shown(url)}, where passwords and tokens would go over the internet without TLS: "
            "write https://; http:// is for this machine and private networks"
        )


def _token(client: "httpx.Client", url: str) -> str:
    if token := os.environ.get(_TOKEN, "").strip():
        if not _A_TOKEN.fullmatch(token):  # httpx would repeat it in its error
            raise ConfigError(f"{_TOKEN} is no token of Airflow's: letters, digits and -._~+/= in one line")
        return token
    login = {"username": os.environ.get(_USERNAME, ""), "password": os.environ.get(_PASSWORD, "")}
    if not all(login.values()):
        raise ConfigError(f"{URL} is set, but not who asks: set {_TOKEN}, or {_USERNAME} and {_PASSWORD}")
    answer = client.post(f"{url}/auth/token", json=login)
    given = _json(url, answer).get("access_token")
    if not isinstance(given, str):
        raise ConfigError(f"Airflow at {_shown(url)} gives no token for a name and a password: set {_TOKEN}")
    return given


def _json(url: str, answer: "httpx.Response", keys: Set[str] = frozenset(), unknown: str = "") -> dict[str, Any]:
    """
    Raises:
        ConfigError: a refusal, in the server's words, or an answer that is none of Airflow's.
    """
    at, status = f"Airflow at {_shown(url)}", answer.status_code
    try:
        said = answer.json()
    except ValueError:
        said = None
    detail = said.get("detail") if isinstance(said, dict) else None
    words = harmless(detail, 300) if isinstance(detail, str) else f"HTTP {status}"
    if status in (401, 403):  # Airflow says 403 of a token that is none, too
        fix = f"renew {_TOKEN}, correct {_USERNAME} and {_PASSWORD}, or give the user a role that may read it"
        raise ConfigError(f"{at} refuses who asks ({words}): {fix}")
    if answer.is_redirect:
        place = harmless(answer.headers.get("Location", "?"), 200)
        raise ConfigError(f"{at} sends elsewhere, to {place}: let {URL} be the address of its API server itself")
    if status in (404, 422) and isinstance(detail, str) and detail != "Not Found":
        raise ConfigError((status == 404 and unknown) or words)
    if status == 429 or status >= 500:
        raise ConfigError(f"{at} cannot answer now ({words}): try again in a minute, and look at the API server's log")
    if answer.is_success and isinstance(said, dict) and said.keys() >= keys:
        return said
    fix = f"let {URL} be the address of an API server with this service's plugin, such as http://localhost:8080"
    raise ConfigError(f"{at} gives no answer of the page Data exports ({words}): {fix}")


def _shown(url: str) -> str:
    """Without a login that somebody has put into it."""
    scheme, separator, rest = harmless(url, 200).rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]
