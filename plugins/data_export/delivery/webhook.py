"""One signed POST to a customer's system, as Standard Webhooks (https://www.standardwebhooks.com) describe it.

The address comes from a customer file, so it must not lead into the platform's own network: https only, public
addresses only, no redirects, and the connection goes to the very addresses that were checked.
"""

import base64
import binascii
import hashlib
import hmac
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException, HTTPSConnection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from data_export.check.results import CheckResult, Results
from data_export.check.shared_steps import WEBHOOK
from data_export.config.fields import quoted_address
from data_export.errors import ConfigError, TargetRefused, TargetUnavailable

_SECONDS = 15  # each wait for the receiver
_ADDRESS_SECONDS = 3  # for each of a host, at least: a packet that is lost is sent again after one
_WHOLE_SECONDS = 45  # all of them: one that answers a byte at a time must not keep others waiting
_SECRET_BYTES = range(24, 65)
# Global to Python, and answered inside a cloud (Azure's own services, Oracle's metadata) or by no host of the internet,
# whose IPv6 addresses are those of 2000::/3.
_INSIDE = tuple(
    map(ip_network, ("168.63.129.16", "192.0.0.0/24", "192.88.99.0/24", "::/3", "3fff::/20", "4000::/2", "8000::/1"))
)
_TRANSLATED = IPv6Network("64:ff9b::/96")  # what NAT64 makes of an address of IPv4


def signed_headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that prove to the receiver who sent the body, and when.

    Args:
        secret: `whsec_` and base64 of 24 to 64 bytes; several with spaces between them while one is being replaced.
        timestamp: seconds since 1970, UTC.

    Raises:
        ConfigError: the secret has another form.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in _keys(secret)]
    signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}


def _keys(secret: str) -> list[bytes]:
    try:
        keys = [base64.b64decode(one.removeprefix("whsec_"), validate=True) for one in secret.split()]
        if not keys or any(len(key) not in _SECRET_BYTES for key in keys) or "whsec_" not in secret:
            raise ValueError("too short or too long")
    except (binascii.Error, ValueError):
        make = "python -c \"import base64, os; print('whsec_' + base64.b64encode(os.urandom(32)).decode())\""
        raise ConfigError(
            f"the webhook's secret is not `whsec_` and base64 of 24 to 64 bytes: make one, {make}"
        ) from None
    return keys


def post(url: str, secret: str, message_id: str, body: bytes, *, private: bool = False) -> None:
    """Sends the body once; returns when the receiver has answered 2xx. Its words are neither read nor shown.

    Args:
        private: whether an address that is not public may be connected to, for tests and demo.

    Raises:
        ConfigError: the secret or the address has another form.
        TargetRefused: the host is not public.
        TargetUnavailable: no answer, or another than 2xx; a redirect is one of those.
    """
    parts = urlsplit(checked_url(url))
    host, port = parts.hostname or "", parts.port or 443
    headers = signed_headers(secret, message_id, int(time.time()), body)
    headers |= {"content-type": "application/json", "user-agent": "data-export-service"}
    status = _status(
        host, port, _addresses(host, port, private), f"{parts.path or '/'}?{parts.query}".rstrip("?"), headers, body
    )
    if not 200 <= status < 300:
        redirect = ", a redirect, which is not followed: write the address that it leads to" * (300 <= status < 400)
        raise TargetUnavailable(f"webhook at {host} answered {status}{redirect}")


def check_webhook(url: str, secret: str, *, private: bool = False) -> list[CheckResult]:
    """Whether the secret is one and the host public and, over TLS, the one it says; nothing is sent."""
    results = Results()
    with results.step(WEBHOOK.of("notice"), f"TLS with {urlsplit(url).hostname}"):
        _keys(secret)
        parts = urlsplit(checked_url(url))
        host, port = parts.hostname or "", parts.port or 443
        connection = _Pinned(host, port, _addresses(host, port, private))
        with _explained(host), closing(connection):
            connection.connect()
    return results


def checked_url(url: str) -> str:
    """The address, if it is https with a host and without user, password or fragment.

    Raises:
        ConfigError: it is not.
    """
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_right = urlsplit(""), False
    if (
        parts.scheme != "https"
        or not parts.hostname
        or parts.username is not None
        or parts.fragment
        or not port_is_right
    ):
        raise ConfigError(
            f"{quoted_address(url)} is not the address of a webhook: write https://host/path, without user and '#'"
        )
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ConfigError(f"{quoted_address(url)} has characters that no address has: percent-encode them")
    return url


def _status(host: str, port: int, addresses: Sequence[str], path: str, headers: dict[str, str], body: bytes) -> int:
    connection = _Pinned(host, port, addresses)
    timer = threading.Timer(_WHOLE_SECONDS, connection.break_off)
    timer.start()
    try:
        with _explained(host), closing(connection):
            connection.request("POST", path, body, headers)
            return connection.getresponse().status
    finally:
        timer.cancel()


@contextmanager
def _explained(host: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise TargetUnavailable(f"webhook at {host}: its certificate is not trusted ({error.verify_message})") from None
    except (OSError, HTTPException) as error:
        raise TargetUnavailable(f"webhook at {host} does not answer ({type(error).__name__})") from None


class _Pinned(HTTPSConnection):
    """Connects to an address that was checked, whatever the name means a moment later; TLS checks the name."""

    def __init__(self, host: str, port: int, addresses: Sequence[str]) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(host, port, timeout=_SECONDS, context=self._tls)
        self._addresses = addresses

    def connect(self) -> None:
        plain = _connected(self._addresses, self.port)
        self.sock = plain
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)

    def break_off(self) -> None:
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def _connected(addresses: Sequence[str], port: int) -> socket.socket:
    """A connection to the first address that takes one, each being given its share of `_SECONDS`."""
    failed, end = OSError("no address"), time.monotonic() + _SECONDS
    for address in addresses:
        if time.monotonic() > end:
            break
        try:
            found = socket.create_connection((address, port), max(_SECONDS / len(addresses), _ADDRESS_SECONDS))
        except OSError as error:
            failed = error
        else:
            found.settimeout(_SECONDS)
            return found
    raise failed


def _addresses(host: str, port: int, private: bool) -> list[str]:
    """The addresses of the host; all of them must be public."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise TargetUnavailable(f"webhook: host {host} is not found ({type(error).__name__})") from None
    for address in found:
        if not private and not is_public(address):
            raise TargetRefused(f"webhook: {host} is {address}, which is not a public address: name a public host")
    return found


def is_public(address: str) -> bool:
    """Whether an address is one of the internet, as is any IPv4 address that it holds."""
    found = ip_address(address.partition("%")[0])
    return all(
        one.is_global and not one.is_multicast and not any(one in network for network in _INSIDE) for one in _all(found)
    )


def _all(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address in _TRANSLATED):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
        return
    if isinstance(address, IPv6Address):
        yield from filter(None, (address.sixtofour, *(address.teredo or ())))
    yield address
