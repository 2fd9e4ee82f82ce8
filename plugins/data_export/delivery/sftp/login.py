"""Opens one SSH connection to a server whose host key is pinned."""

import asyncio
import os
import random
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from data_export.delivery.sftp import SFTP_PORT, server_address
from data_export.delivery.sftp.errors import named, unavailable
from data_export.delivery.sftp.host_keys import have_a_name, mismatch, pinned_keys, shown_key, why_no_key_fits
from data_export.delivery.sftp.wire.cork import Network
from data_export.errors import AccessDenied, ConfigError, DataExportError, TargetRefused
from data_export.wording import harmless

if TYPE_CHECKING:
    import asyncssh

# AES-GCM costs a third less CPU than asyncssh's own first choice, chacha20; '^' keeps the others for other servers.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
# Old servers offer only these: SHA-1, of which 1,024-bit groups stay out, and ciphers in CBC mode.
_LEGACY_CIPHERS = (
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr,aes256-cbc,aes192-cbc,aes128-cbc"
)
_LEGACY_EXCHANGES = "+diffie-hellman-group-exchange-sha1"
_KEEPALIVE_SECONDS = 15
_OFFERS_SHOWN = 600
_TRIES = 4
_LONGEST_KEY = 64 * 1024


@dataclass(frozen=True, slots=True)
class SftpLogin:
    """Who we are and which server we trust.

    `host_key` is the server's public key, e.g. `ssh-ed25519 AAAA...`, or several, one a line; no other is accepted. The
    private key is given as text or as the absolute path of a file, and may need `passphrase`; `password` is for servers
    without keys. `legacy_algorithms` lets old servers in that know SHA-1 only.
    """

    host: str
    username: str
    host_key: str
    port: int = SFTP_PORT
    private_key: str | None = field(default=None, repr=False)
    private_key_path: str | None = None
    passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    legacy_algorithms: bool = False

    @property
    def server(self) -> str:
        """`host:port`, as messages name the server."""
        return server_address(self.host, self.port)


async def connect(login: SftpLogin, timeout: float) -> "asyncssh.SSHClientConnection":
    """A connection that is logged in; `timeout` seconds for the network and twice that for the login.

    A server that hangs up before the login is asked again, a little later: sshd's MaxStartups drops connections at
    random when many tasks arrive at once.

    Raises:
        HostKeyMismatch: another host key than the pinned one; not tried again.
        AccessDenied: user, key, passphrase or password refused.
        ConfigError: host key or private key cannot be read; host, port, user or password can be no such thing.
        TargetUnavailable: name not found, refused, reset, timed out.
    """
    import asyncssh

    pinned = pinned_keys(login.host_key, login.server)
    have_a_name()
    keys = await asyncio.to_thread(_client_keys, login)
    for tries_left in reversed(range(_TRIES)):
        try:
            return await _connect_once(login, pinned, keys, timeout)
        except DataExportError:
            raise
        except (asyncssh.ConnectionLost, ConnectionResetError) as error:
            if "timeout" in str(error).lower():
                raise unavailable(login.server, error) from None
            if not tries_left:
                reason = await why_no_key_fits(login.host, login.port, pinned, timeout)
                raise reason or unavailable(login.server, error) from None
            await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - spreads the tries, guards nothing
        except (TimeoutError, OSError, asyncssh.Error) as error:
            raise _refusal(login, error) from None
        except (ValueError, OverflowError) as error:  # before anything is sent: a host of 70 letters, port 99999
            raise ConfigError(
                f"{login.server}: host, port, user name or password is not valid in SSH "
                f"({named(error)}): correct the customer file or the Airflow connection"
            ) from None
    raise AssertionError("unreachable: the last try returns or raises")


async def _connect_once(
    login: SftpLogin, pinned: "list[asyncssh.SSHKey]", keys: "list[asyncssh.SSHKey]", timeout: float
) -> "asyncssh.SSHClientConnection":
    import asyncssh

    offered: list[asyncssh.SSHKey] = []

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
            offered.append(key)  # asked only where the key is not a pinned one
            return False

    try:
        return await asyncssh.connect(
            login.host,
            login.port,
            config=None,  # nobody's ~/.ssh/config, agent or known_hosts decides for a customer
            agent_path=None,
            tunnel=Network(),
            gss_host=None,
            client_factory=Client,
            username=login.username,
            client_keys=keys or None,
            password=login.password,
            known_hosts=(pinned, [], []),
            preferred_auth="publickey" if keys and not login.password else "publickey,password,keyboard-interactive",
            **_algorithms(login, pinned),
            compression_algs=["none"],
            connect_timeout=timeout,
            login_timeout=2 * timeout,
            keepalive_interval=_KEEPALIVE_SECONDS,
        )
    except asyncssh.HostKeyNotVerifiable:
        raise mismatch(login.server, pinned, shown_key(offered[0]) if offered else "an unreadable key") from None
    except asyncssh.KeyExchangeFailed as error:
        if "host key" not in str(error):
            raise
        raise await why_no_key_fits(login.host, login.port, pinned, timeout) or error from None


def _algorithms(login: SftpLogin, pinned: "list[asyncssh.SSHKey]") -> dict[str, Any]:
    """What we offer a server: nothing with SHA-1 unless the customer file asks for it."""
    of_keys = list(dict.fromkeys(name.decode() for key in pinned for name in key.sig_algorithms))
    if login.legacy_algorithms:
        return {
            "kex_algs": _LEGACY_EXCHANGES,
            "encryption_algs": _LEGACY_CIPHERS,
            "server_host_key_algs": of_keys,
        }
    return {
        "kex_algs": "-*-sha1",
        "encryption_algs": _CIPHERS,
        "mac_algs": "-hmac-sha1*",
        "signature_algs": "-ssh-rsa",
        "server_host_key_algs": [name for name in of_keys if name != "ssh-rsa"],
    }


def _refusal(login: SftpLogin, error: Exception) -> DataExportError:
    import asyncssh

    if isinstance(error, asyncssh.PermissionDenied):
        if login.private_key or login.private_key_path:
            return AccessDenied(
                f"{login.server} refuses the key of user {login.username!r}: ask its administrator to add our public "
                "key for that user (`ssh-keygen -y -f <private key>` prints it), or correct the user name"
            )
        return AccessDenied(f"{login.server} refuses user {login.username!r} or the password: correct the connection")
    if isinstance(error, asyncssh.KeyExchangeFailed | asyncssh.ProtocolNotSupported):
        _, _, theirs = str(error).rpartition(" received ")
        offers = f"it offers {theirs}" if theirs != str(error) else named(error)
        what = str(error).partition("No matching ")[2].partition(" algorithm")[0]
        old = "" if login.legacy_algorithms else ", or set sftp_legacy_algorithms: true if it is an old one"
        return TargetRefused(
            f"{login.server} and we have no {what or 'SSH'} algorithm in common "
            f"({harmless(offers, _OFFERS_SHOWN)}): have the server updated{old}"
        )
    if isinstance(error, asyncssh.IllegalUserName):
        return AccessDenied(f"{login.server} refuses user name {login.username!r}: correct it")
    return unavailable(login.server, error)


def _client_keys(login: SftpLogin) -> "list[asyncssh.SSHKey]":
    """Reads and decrypts the key; runs in a thread, because a passphrase takes up to a second of CPU."""
    import asyncssh

    where = login.private_key_path or f"private key of user {login.username!r} for {login.server}"
    text = login.private_key
    if text is None and login.private_key_path is None:
        if login.password:
            return []
        raise ConfigError(f"{login.server}: user {login.username!r} has neither private key nor password: give one")
    try:
        data = text.encode() if text is not None else _read_key(login.private_key_path or "")
        return [_opened(data, login.passphrase)]
    except ConfigError:
        raise
    except FileNotFoundError:
        raise ConfigError(f"{where}: no such file on this worker: put the private key there") from None
    except OSError as error:
        raise AccessDenied(f"{where}: {error.strerror}: let the user that runs the workers read it") from None
    except asyncssh.KeyEncryptionError:
        raise AccessDenied(f"{where}: the passphrase does not open it: correct sftp_private_key_passphrase") from None
    except ValueError as error:  # a KeyImportError, or no text or file name at all
        if "assphrase" in str(error):
            raise AccessDenied(f"{where} needs a passphrase: give it in sftp_private_key_passphrase") from None
        # In the older formats a wrong one is just a key that cannot be decrypted, or decrypts to nonsense.
        if "decrypt" in str(error) or (login.passphrase and b"ENCRYPTED" in data):
            raise AccessDenied(
                f"{where}: the passphrase does not open it: correct sftp_private_key_passphrase"
            ) from None
        raise ConfigError(f"{where} is not a private key that OpenSSH would read: correct it") from None


@lru_cache(maxsize=4)
def _opened(key: bytes, passphrase: str | None) -> "asyncssh.SSHKey":
    """Decrypted once for all connections of a process: with a passphrase that is a second of CPU each."""
    import asyncssh

    return asyncssh.import_private_key(key, passphrase)


def _read_key(path: str) -> bytes:
    """A key file's bytes.

    Raises:
        ConfigError: a device, a pipe, which could hang or never end, a folder, a kernel's file, or more than a key has.
    """
    kernels = os.path.realpath(path).startswith(("/proc/", "/sys/", "/dev/"))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode) and not kernels
        data = os.read(descriptor, _LONGEST_KEY + 1) if is_file else b""
    finally:
        os.close(descriptor)
    if not data or len(data) > _LONGEST_KEY:
        raise ConfigError(
            f"{path} is not a file that holds a private key: name a regular file of 1 to {_LONGEST_KEY:,} bytes"
        )
    return data
