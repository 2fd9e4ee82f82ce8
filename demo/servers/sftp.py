"""An SFTP server with key authentication and a host key to pin."""

import asyncio
import secrets
from pathlib import Path
from typing import Any, Self, cast

import asyncssh

from demo.servers.loop_thread import LoopThread, stop_accepting

USERNAME = "data-export"
#: asyncssh's own 128 rounds cost a second of CPU at every login, and such a key opens a demo or a test only.
FEW_ROUNDS: dict[str, Any] = {"rounds": 2, "ignore_few_rounds": True}


class SftpKeys:
    """Host key, client key and the client key's passphrase, made once and kept in `folder`.

    Kept, because a customer file pins the host key: a second start of the demo must show the same one.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.host_key_path = folder / "host_key"
        self.client_key_path = folder / "client_key"
        passphrase_path = folder / "passphrase"
        if not passphrase_path.exists():
            passphrase = secrets.token_urlsafe(18)
            for path, how in (
                (self.host_key_path, {}),
                (self.client_key_path, {"passphrase": passphrase, **FEW_ROUNDS}),
            ):
                key = asyncssh.generate_private_key("ssh-ed25519")
                key.write_private_key(path, **how)
                path.chmod(0o600)
                key.write_public_key(f"{path}.pub")
            passphrase_path.write_text(passphrase)
            passphrase_path.chmod(0o600)
        self.passphrase = passphrase_path.read_text()
        self.host_key = public_line(asyncssh.read_public_key(f"{self.host_key_path}.pub"))
        self.client_key = public_line(asyncssh.read_public_key(f"{self.client_key_path}.pub"))


def public_line(key: asyncssh.SSHKey) -> str:
    """`<type> <base64>`, as it is written in known_hosts and in a customer file."""
    return " ".join(key.export_public_key().decode().split()[:2])


class SftpServer:
    """An SFTP server in a thread, chrooted to `<folder>/files`, that lets one user in by one key.

    `sftp` is the class that answers a session's requests: a test passes one that misbehaves. `options` go to
    `asyncssh.listen`.
    """

    host = "127.0.0.1"
    username = USERNAME
    #: How clients write the folder that `root` is on this side.
    base = "/"

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        listen: str = "127.0.0.1",
        sftp: type[asyncssh.SFTPServer] = asyncssh.SFTPServer,
        **options: Any,
    ) -> None:
        self._options = options
        self.port = port
        self._listen_on = listen
        self.root = folder / "files"
        self.root.mkdir(parents=True, exist_ok=True)
        self.keys = SftpKeys(folder / "keys")
        self._sftp = sftp
        self._connections: set[asyncssh.SSHServerConnection] = set()

    @property
    def private_key_path(self) -> Path:
        return self.keys.client_key_path

    @property
    def passphrase(self) -> str:
        return self.keys.passphrase

    @property
    def host_key(self) -> str:
        """The server's public key, `ssh-ed25519 AAAA...`."""
        return self.keys.host_key

    @property
    def url(self) -> str:
        return f"sftp://{self.username}@{self.host}:{self.port}{self.base}"

    def __enter__(self) -> Self:
        self._thread = LoopThread("sftp-server")
        self._listener = self._thread.run(self._listen())
        self.port = self._listener.get_port()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.run(self._stop())
        self._thread.close()

    async def _listen(self) -> asyncssh.SSHAcceptor:
        allowed = asyncssh.import_public_key(self.keys.client_key)
        root = str(self.root).encode()
        return await asyncssh.listen(
            self._listen_on,
            self.port,
            server_factory=lambda: _OneUser(allowed, self._connections),
            sftp_factory=lambda channel: self._sftp(channel, chroot=root),
            allow_scp=False,
            **{"server_host_keys": [self.keys.host_key_path]} | self._options,
        )

    async def _stop(self) -> None:
        await stop_accepting(cast("asyncio.Server", self._listener))  # which it passes on
        await self._listener.wait_closed()
        for connection in list(self._connections):
            connection.abort()
            await connection.wait_closed()


class _OneUser(asyncssh.SSHServer):
    def __init__(self, allowed: asyncssh.SSHKey, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._allowed = allowed
        self._connections = connections

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == USERNAME and key == self._allowed
