"""The real OpenSSH server, where it is installed, started without root for one user and one folder."""

import getpass
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from demo.servers.sftp import SftpKeys

SSHD = Path("/usr/sbin/sshd")


class OpensshServer:
    """`sshd` with `internal-sftp`, key authentication only; logs to `<folder>/sshd.log`.

    As root it chroots to the folder where sshd accepts that (every folder above belongs to root and nobody else writes
    there); otherwise sessions merely begin in it. `base` is how clients write `root` in either case.
    `sftp_options` go to internal-sftp: `-R` for a read-only server, `-P posix-rename` to take an operation away.
    `open_files` bounds what each of its processes may open; `settings` are further lines of sshd_config. `subsystem` is
    another program in place of internal-sftp, started in `files` and not chrooted.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        sftp_options: str = "",
        open_files: int | None = None,
        settings: str = "",
        subsystem: str = "",
    ) -> None:
        self.port = port or _free_port()
        self.username = getpass.getuser()
        self.root = (folder / "files").resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self.keys = SftpKeys(folder / "keys")
        self.private_key_path = self.keys.client_key_path
        self.passphrase = self.keys.passphrase
        self.host_key = self.keys.host_key
        self.log = folder / "sshd.log"
        self._folder = folder.resolve()
        self._chroot = not subsystem and _may_chroot(self.root)
        self._subsystem = subsystem
        self.base = "/" if self._chroot else f"{self.root}/"
        self._sftp_options = sftp_options
        self._settings = settings
        self._limit = [] if open_files is None else ["prlimit", f"--nofile={open_files}:{open_files}"]

    @staticmethod
    def installed() -> bool:
        return SSHD.exists()

    @property
    def url(self) -> str:
        return f"sftp://{self.username}@{self.host}:{self.port}{self.base}"

    def __enter__(self) -> Self:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd's privilege separation will not start without it
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*self._limit, SSHD, "-D", "-e", "-f", self._write_config()], stderr=log)
        self._wait()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def _write_config(self) -> Path:
        allowed = self.keys.client_key_path.with_name("authorized_keys")
        allowed.write_text(self.keys.client_key + "\n")
        command = f"internal-sftp {self._sftp_options}"
        start = command if self._chroot else self._subsystem or f"{command} -d {self.root}"
        where = f"ChrootDirectory {self.root}" if self._chroot else ""
        config = self._folder / "sshd_config"
        config.write_text(
            f"""ListenAddress {self.host}:{self.port}
HostKey {self._folder / "keys" / "host_key"}
AuthorizedKeysFile {allowed.resolve()}
PidFile none
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
ForceCommand {start}
LogLevel VERBOSE
{where}
{self._settings}
"""
        )
        return config

    def _wait(self) -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with socket.create_connection((self.host, self.port), timeout=1) as probe:
                    if probe.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise RuntimeError(f"{SSHD} does not answer on port {self.port}: {self.log.read_text()[-500:]}")


def _may_chroot(folder: Path) -> bool:
    owned = (path.stat() for path in (folder, *folder.parents))
    return os.getuid() == 0 and all(stat.st_uid == 0 and not stat.st_mode & 0o022 for stat in owned)


def _free_port() -> int:
    """sshd cannot choose a port itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
