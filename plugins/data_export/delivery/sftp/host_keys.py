"""Which server we talk to: the host keys that are pinned, and those that a server shows."""

import asyncio
from typing import TYPE_CHECKING

from data_export.config.fields import host_keys
from data_export.delivery.sftp import server_address
from data_export.delivery.sftp.errors import unavailable
from data_export.errors import ConfigError, HostKeyMismatch, TargetRefused

if TYPE_CHECKING:
    import asyncssh

# Of each kind a server has at most one key.
_KINDS = (
    ["ssh-ed25519"],
    *([f"ecdsa-sha2-nistp{bits}"] for bits in (256, 384, 521)),
    ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"],
)


def pinned_keys(text: str, server: str) -> "list[asyncssh.SSHKey]":
    """The keys of a text that has one on each line.

    Raises:
        ConfigError: one of them is not a public key.
    """
    import asyncssh

    try:
        return [asyncssh.import_public_key(line) for line in host_keys(text).splitlines()]
    except (ValueError, asyncssh.KeyImportError) as error:
        words = "is not a whole public key" if isinstance(error, asyncssh.KeyImportError) else str(error)
        raise ConfigError(f"host key {text[:30]!r} of {server} {words}") from None


async def fetch_host_keys(host: str, port: int, timeout: float = 15) -> list[tuple[str, str]]:
    """Every key that the server shows now, with its fingerprint, for a person to compare; nothing is trusted or sent.

    Raises:
        TargetUnavailable: no SSH server answers there.
        TargetRefused: it shows none that can be pinned.
    """
    import asyncssh

    answers = [await _fetch(host, port, timeout, algorithms) for algorithms in _KINDS]
    found = [(line_of_key(one), one.get_fingerprint()) for one in answers if isinstance(one, asyncssh.SSHKey)]
    if not found:
        for answer in answers:
            if isinstance(answer, Exception):
                raise unavailable(server_address(host, port), answer)
        raise TargetRefused(f"{server_address(host, port)} shows no host key: it cannot be pinned")
    return found


async def _fetch(host: str, port: int, timeout: float, algorithms: list[str]) -> "asyncssh.SSHKey | Exception | None":
    """The server's key of a kind; None or, where it hangs up instead of saying so, an error means that it has none."""
    import asyncssh

    try:
        async with asyncio.timeout(timeout):
            return await asyncssh.get_server_host_key(host, port, config=None, server_host_key_algs=algorithms)
    except (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionResetError) as error:
        return None if "host key" in str(error) else error
    except (TimeoutError, OSError, asyncssh.Error) as error:
        raise unavailable(server_address(host, port), error) from None


def mismatch(server: str, pinned: "list[asyncssh.SSHKey]", shown: str) -> HostKeyMismatch:
    """
    Args:
        shown: the server's key, as messages show it.
    """
    ours = " and ".join(key.get_fingerprint() for key in pinned)
    return HostKeyMismatch(
        f"{server} shows host key {shown}, but {ours} is pinned: nothing was sent. Ask its administrator whether the "
        "key was changed, or belongs to another node of a cluster; only then add the new one to sftp_host_key, which "
        "may be a list (or to host_key of the Airflow connection)"
    )


def shown_key(key: "asyncssh.SSHKey") -> str:
    """Fingerprint and key, as messages show them."""
    return f"{key.get_fingerprint()} ({line_of_key(key)})"


def line_of_key(key: "asyncssh.SSHKey") -> str:
    return " ".join(key.export_public_key().decode().split()[:2])
