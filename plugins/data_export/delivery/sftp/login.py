"""Opens one SSH connection to a server whose host key is pinned."""

import asyncio
import os
import random
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from data_export.delivery.sftp import SFTP_PORT, server_address
from data_export.delivery.sftp.errors import named, unavailable
from data_export.errors import AccessDenied, ConfigError, DataExportError, HostKeyMismatch, TargetRefused

if TYPE_CHECKING:
    import asyncssh

# AES-GCM costs a third less CPU than asyncssh's own first choice, chacha20; '^' keeps the others for other servers.
_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
_KEEPALIVE_SECONDS = 15
_TRIES = 4
_LONGEST_KEY = 64 * 1024


@dataclass(frozen=True, slots=True)
class SftpLogin:
    """Who we are and which server we trust.

    `host_key` is the server's public key, e.g. `ssh-ed25519 AAAA...`; no other is ever accepted. The private key is
    given as text or as the absolute path of a file, and may need `passphrase`; `password` is for servers without keys.
    """

    host: str
    username: str
    host_key: str
    port: int = SFTP_PORT
    private_key: str | None = field(default=None, repr=False)
    private_key_path: str | None = None
    passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

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

    pinned = _pinned(login)
    keys = await asyncio.to_thread(_client_keys, login)
    for tries_left in reversed(range(_TRIES)):
        try:
            return await _connect_once(login, pinned, keys, timeout)
        except DataExportError:
            raise
        except (asyncssh.ConnectionLost, ConnectionResetError) as error:
            if not tries_left or "timeout" in str(error).lower():
                raise unavailable(login.server, error) from None
            await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - spreads the tries, guards nothing
        except (TimeoutError, OSError, asyncssh.Error) as error:
            raise _refusal(login, error) from None
        except (ValueError, OverflowError) as error:  # before anything is sent: a host of 70 letters, port 99999
            raise ConfigError(
                f"{login.server}: host, port, user name or password is not valid in SSH "
                f"({type(error).__name__}): correct the customer file or the Airflow connection"
            ) from None
    raise AssertionError("unreachable: the last try returns or raises")


async def fetch_host_key(host: str, port: int, timeout: float = 15) -> tuple[str, str]:
    """The key that the server shows now, and its fingerprint, for a person to compare; nothing is trusted or sent.

    Raises:
        TargetUnavailable: no SSH server answers there.
    """
    import asyncssh

    try:
        async with asyncio.timeout(timeout):
            key = await asyncssh.get_server_host_key(host, port, config=None)
    except (TimeoutError, OSError, asyncssh.Error) as error:
        raise unavailable(f"{host}:{port}", error) from None
    if key is None:
        raise TargetRefused(f"{host}:{port} shows no host key: it cannot be pinned")
    return _line(key), key.get_fingerprint()


async def _connect_once(
    login: SftpLogin, pinned: "asyncssh.SSHKey", keys: "list[asyncssh.SSHKey]", timeout: float
) -> "asyncssh.SSHClientConnection":
    import asyncssh

    offered: list[asyncssh.SSHKey] = []

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
            offered.append(key)  # asked only where the key is not the pinned one
            return False

    try:
        return await asyncssh.connect(
            login.host,
            login.port,
            config=None,  # nobody's ~/.ssh/config, agent or known_hosts decides for a customer
            agent_path=None,
            gss_host=None,
            client_factory=Client,
            username=login.username,
            client_keys=keys or None,
            password=login.password,
            known_hosts=([pinned], [], []),
            preferred_auth="publickey" if keys and not login.password else "publickey,password,keyboard-interactive",
            encryption_algs=_CIPHERS,
            compression_algs=["none"],
            connect_timeout=timeout,
            login_timeout=2 * timeout,
            keepalive_interval=_KEEPALIVE_SECONDS,
        )
    except asyncssh.HostKeyNotVerifiable:
        raise _mismatch(login, pinned, offered[0] if offered else None) from None
    except asyncssh.KeyExchangeFailed as error:
        if "host key" not in str(error):
            raise
        shown, _ = await fetch_host_key(login.host, login.port, timeout)  # the server has no key of the pinned type
        raise _mismatch(login, pinned, asyncssh.import_public_key(shown)) from None


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
        return TargetRefused(
            f"{login.server} and we have no SSH algorithm in common ({named(error)}): update the server"
        )
    if isinstance(error, asyncssh.IllegalUserName):
        return AccessDenied(f"{login.server} refuses user name {login.username!r}: correct it")
    return unavailable(login.server, error)


def _mismatch(login: SftpLogin, pinned: "asyncssh.SSHKey", offered: "asyncssh.SSHKey | None") -> HostKeyMismatch:
    shown = f"{offered.get_fingerprint()} ({_line(offered)})" if offered else "an unreadable key"
    return HostKeyMismatch(
        f"{login.server} shows host key {shown}, but {pinned.get_fingerprint()} is pinned: nothing was sent. Ask its "
        "administrator whether the key was changed; only then write the new one into sftp_host_key (or host_key of "
        "the Airflow connection)"
    )


def _pinned(login: SftpLogin) -> "asyncssh.SSHKey":
    import asyncssh

    try:
        return asyncssh.import_public_key(login.host_key)
    except asyncssh.KeyImportError:
        raise ConfigError(
            f"host key {login.host_key[:30]!r} of {login.server} is not a public key: write type and key, e.g. "
            "`ssh-ed25519 AAAA...`, without a host name before it"
        ) from None


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
        raise ConfigError(f"{path} is not a private key: name a regular file of 1 to {_LONGEST_KEY:,} bytes")
    return data


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
        return [asyncssh.import_private_key(data, login.passphrase)]
    except DataExportError:
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
        raise ConfigError(f"{where} is not a private key that OpenSSH would read: correct it") from None


def _line(key: "asyncssh.SSHKey") -> str:
    return " ".join(key.export_public_key().decode().split()[:2])
