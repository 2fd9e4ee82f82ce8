"""SFTP servers of other makers, where they are installed: ProFTPD's mod_sftp, and rclone's."""

import getpass
import grp
import os
import pwd
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import asyncssh

from demo.servers.sftp import SftpKeys, public_line

_START_SECONDS = 10


class ForeignServer(ABC):
    """A server of its own process with one user, one key and `<folder>/files`; logs to `<folder>/server.log`."""

    host = "127.0.0.1"
    program: ClassVar[str]
    #: The Debian packages that bring it.
    packages: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self.root = self._folder / "files"
        self.root.mkdir(parents=True, exist_ok=True)
        self.keys = SftpKeys(self._folder / "keys")
        self.private_key_path = self.keys.client_key_path
        self.passphrase = self.keys.passphrase
        self.host_key = self.keys.host_key
        self.username = getpass.getuser()
        self.base = f"{self.root}/"
        self.log = self._folder / "server.log"
        with socket.socket() as probe:  # neither can choose a port itself
            probe.bind((self.host, 0))
            self.port = int(probe.getsockname()[1])

    @classmethod
    def installed(cls) -> bool:
        return shutil.which(cls.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None

    @property
    def url(self) -> str:
        return f"sftp://{self.username}@{self.host}:{self.port}{self.base}"

    @abstractmethod
    def _command(self) -> list[str]:
        """Writes what the server reads, and says how to start it in the foreground."""

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with socket.create_connection((self.host, self.port), timeout=1) as probe:
                    if probe.recv(4) == b"SSH-":
                        return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise RuntimeError(f"{self.program} does not answer on port {self.port}: {self.log.read_text()[-500:]}")

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.wait()


class ProftpdServer(ForeignServer):
    """ProFTPD with mod_sftp; `settings` are further lines of its configuration, such as `MaxTransfersPerUser 2`."""

    program = "proftpd"
    packages = "proftpd-core and proftpd-mod-crypto"

    def __init__(self, folder: Path, settings: str = "") -> None:
        super().__init__(folder)
        self._settings = settings

    @classmethod
    def installed(cls) -> bool:
        return super().installed() and Path("/usr/lib/proftpd/mod_sftp.so").exists()

    def _command(self) -> list[str]:
        folder, user = self._folder, pwd.getpwuid(os.getuid())
        users, groups = folder / "users", folder / "groups"
        users.write_text(f"{user.pw_name}:x:{user.pw_uid}:{user.pw_gid}::{self.root}:/bin/sh\n")
        group = grp.getgrgid(user.pw_gid).gr_name
        groups.write_text(f"{group}:x:{user.pw_gid}:{user.pw_name}\n")
        for path in (users, groups):
            path.chmod(0o600)
        allowed = folder / "allowed.pub"
        # The format of RFC 4716, which is the only one that it reads.
        allowed.write_bytes(asyncssh.read_public_key(f"{self.private_key_path}.pub").export_public_key("rfc4716"))
        config = folder / "proftpd.conf"
        config.write_text(
            f"""LoadModule mod_sftp.c
ServerType standalone
UseIPv6 off
DefaultAddress {self.host}
Port {self.port}
User {user.pw_name}
Group {group}
RootLogin on
UseFtpUsers off
RequireValidShell off
AllowOverwrite on
MaxInstances none
DelayEngine off
UseReverseDNS off
WtmpLog off
PidFile {folder / "pid"}
ScoreboardFile {folder / "scoreboard"}
SystemLog {folder / "system.log"}
AuthUserFile {users}
AuthGroupFile {groups}
AuthOrder mod_auth_file.c
SFTPEngine on
SFTPLog {folder / "sftp.log"}
SFTPHostKey {self.keys.host_key_path}
SFTPAuthorizedUserKeys file:{allowed}
SFTPAuthMethods publickey
{self._settings}
"""
        )
        return ["/usr/sbin/proftpd", "--nodaemon", "--config", str(config)]


class RcloneServer(ForeignServer):
    """`rclone serve sftp` on a folder of this machine. Its rename takes the place of a file, against the protocol."""

    program = "rclone"
    packages = "rclone"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.base = "/"

    def _command(self) -> list[str]:
        allowed = self._folder / "authorized_keys"
        allowed.write_text(public_line(asyncssh.read_public_key(f"{self.private_key_path}.pub")) + "\n")
        return [
            *("rclone", "serve", "sftp", str(self.root), "--addr", f"{self.host}:{self.port}"),
            *("--key", str(self.keys.host_key_path), "--authorized-keys", str(allowed), "--user", self.username),
            *("--vfs-cache-mode", "writes", "--cache-dir", str(self._folder / "cache"), "--dir-cache-time", "0s"),
            *("--vfs-write-back", "0s", "--config", str(self._folder / "none.conf")),
        ]
