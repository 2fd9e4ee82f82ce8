"""docker-compose.yaml's services as plain processes of this machine: its commands, environments and health checks.

What containers would do is done by the machine's own means: each service has its own home and scratch folder, and of
the environment nothing but what the file and the images give it; hosts become loopback addresses.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import psycopg

from demo.guard import Guard
from demo.platform import EmbeddedPlatform
from demo.rest import AirflowApi, wait_for
from demo.servers.postgres import PostgresServer, _free_port
from tests.unit.deploy.compose_file import ROOT, compose, filled_env

AIRFLOW = ("api-server", "execution-api", "scheduler", "dag-processor", "triggerer")
#: What the image of Redis begins with: it drops root's rights, and then runs the command.
_ENTRYPOINT = '#!/bin/sh\nexec "$@"\n'


class Fleet:
    """Runs the services while the `with` block lasts; `start` starts one, `stop` and `kill` end it.

    Args:
        state: holds everything that the services write.
        platform: the servers that exports read and deliver to.
        customers: folder of the customer files.
        workers: how many; each is a service of its own, `worker-1` and so on.
        settings: take the place of what the platform's environment says.
    """

    def __init__(
        self,
        state: Path,
        platform: EmbeddedPlatform,
        customers: Path,
        workers: int = 1,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.state, self.platform, self._settings = state, platform, settings
        slots = 4
        sizes = {"WORKERS": str(workers), "AIRFLOW__CORE__PARALLELISM": str(workers * slots)}
        self.env = filled_env() | sizes | {"CUSTOMERS_DIR": str(customers)}
        self._service_env = filled_env("service.env")
        self.services: dict[str, Any] = compose(self.env)["services"]
        self.workers = [f"worker-{number + 1}" for number in range(workers)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        #: By service, what a test gives it besides, from its next start on.
        self.more: dict[str, dict[str, str]] = {}
        ports = ("redis", "api-server", "execution-api", "scheduler", "scheduler-2")
        self._ports = {name: _free_port() for name in ports}
        self.url = f"http://127.0.0.1:{self._ports['api-server']}"
        self.api = AirflowApi(self.url, self.env["AIRFLOW_ADMIN_USERNAME"], self.env["AIRFLOW_ADMIN_PASSWORD"])
        self.postgres = PostgresServer(state / "postgres", durable=False)
        #: By service, the CPU seconds of its last health check.
        self.check_seconds: dict[str, float] = {}
        #: The workers whose scratch is a disk of their own: all of them, where this process may mount one.
        self.disks: set[str] = set()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._guard = stack.enter_context(Guard())
            stack.enter_context(self.postgres)
            stack.callback(self.api.close)
            self._prepare()
            for name in self.workers:
                if _mounted(self.scratch(name), self._user(name)):
                    self.disks.add(name)
                    stack.callback(_unmount, self.scratch(name))
            self.start("redis")
            self.start("init")
            if code := self.processes.pop("init").wait(300):
                raise RuntimeError(f"init has ended with {code}; {self.log('init')}")
            for name in (*AIRFLOW, *self.workers):
                self.start(name)
            wait_for("the fleet is healthy", self._up, 600, pause=3)
            self.api.sign_in()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
        for process in self.processes.values():
            process.wait()

    def start(self, name: str) -> None:
        """Starts a service as the file says; `scheduler-2` is a second one of the same kind."""
        with (self.state / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self._as_user(name), *self._more(name), *self._words(name, self._service(name)["command"])],
                env=self.environment(name),
                cwd=self.home(name) if name == "redis" else ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o002,  # logs are written by all, whose users have their group in common
            )
        self._guard.watch(process.pid)
        self.processes[name] = process

    def run_python(self, name: str, code: str) -> None:
        """Runs a few lines as the service's own processes run: their user, environment and folders."""
        words = [*self._as_user(name), sys.executable, "-c", code]
        subprocess.run(words, env=self.environment(name), cwd=ROOT, check=True)

    def kill(self, name: str) -> None:
        """Ends all processes of a service at once, as a crash of its machine does."""
        self._signal(name, signal.SIGKILL)

    def stop(self, name: str) -> None:
        """Asks a service to end, and waits."""
        self._signal(name, signal.SIGTERM)

    def wind_down(self, seconds: float) -> None:
        """Hands out no more tasks, and lets those that run end, so long at most."""
        for name in ("scheduler", *self.workers):
            if name in self.processes:
                os.kill(self.processes[name].pid, signal.SIGTERM)
        until = time.monotonic() + seconds
        for name in self.workers:
            with suppress(subprocess.TimeoutExpired):
                self.processes[name].wait(max(0.0, until - time.monotonic()))

    def healthy(self, name: str | None = None) -> bool:
        """Whether the file's own health check succeeds for a service, or for all that run."""
        names = [name] if name else [each for each in self.processes if each in AIRFLOW or each in self.workers]
        return all(map(self._check, names))

    def log(self, name: str) -> str:
        """The end of what the service wrote."""
        return (self.state / f"{name}.log").read_text(errors="replace")[-4000:]

    def environment(self, name: str) -> dict[str, str]:
        """All that the service's process gets."""
        given = self._service(name).get("environment", {})
        if name == "redis":
            return self._placed(name, given) | {"PATH": f"{self.state}:{os.environ['PATH']}"}
        home = self.home(name)
        image = {  # what Airflow's image and ours set, and where this machine has it
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "LOGNAME": "airflow",
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "AIRFLOW_HOME": str(home),
            "PYTHONPATH": f"{ROOT}/plugins",
            "AIRFLOW__CORE__DAGS_FOLDER": f"{ROOT}/dags",
            # Here even if Python takes the machine's /tmp, as it does in a process that began on a full disk.
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "tmp" / "airflow" / "dag_bundles"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": f"{ROOT}/plugins",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{self.state}/logs",
            "DATA_EXPORT_CUSTOMERS_DIR": self.env["CUSTOMERS_DIR"],
            "NO_PROXY": "127.0.0.1,localhost",
        }
        ours = {"AIRFLOW__API__HOST": "127.0.0.1", "AIRFLOW__API__WORKERS": "1"}
        ours["AIRFLOW__API__BASE_URL"] = self.url
        ours["AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT"] = str(
            self._ports["scheduler-2" if name == "scheduler-2" else "scheduler"]
        )
        if name in self._ports:
            ours["AIRFLOW__API__PORT"] = str(self._ports[name])
        key = "DATA_EXPORT_SIGNING_KEY"
        settings = self.platform.environment() | {key: self._service_env[key]}
        return image | settings | {**self._settings} | self._placed(name, given) | ours

    def _user(self, name: str) -> int | None:
        """Each worker's own, where this process may choose; of a group that may read, as in the image."""
        return 50001 + self.workers.index(name) if name in self.workers and os.getuid() == 0 else None

    def _as_user(self, name: str) -> list[str]:
        """What to put before a command. The one right kept lets it read code below a private folder, such as root's."""
        if (user := self._user(name)) is None:
            return []
        right = "+dac_read_search"
        words = ["setpriv", f"--reuid={user}", "--regid=0", "--clear-groups"]
        return [*words, f"--inh-caps={right}", f"--ambient-caps={right}", "--"]

    def _more(self, name: str) -> list[str]:
        """Set after the user is: a library that is loaded before would keep what is root's."""
        return ["env", *(f"{key}={value}" for key, value in self.more.get(name, {}).items())]

    def _service(self, name: str) -> dict[str, Any]:
        service: dict[str, Any] = self.services[re.sub(r"-\d+$", "", name)]
        return service

    def scratch(self, name: str) -> Path:
        """Where the service's tasks have their scratch folders."""
        return self.home(name) / "tmp"

    def home(self, name: str) -> Path:
        """The folder that is the service's alone."""
        home = self.state / "homes" / name
        if not home.exists():
            (home / "tmp").mkdir(parents=True)
            (home / "airflow.cfg").touch()
            if (user := self._user(name)) is not None:
                for path in (home, home / "tmp", home / "airflow.cfg"):
                    os.chown(path, user, 0)
        return home

    def _placed(self, name: str, values: Mapping[str, str]) -> dict[str, str]:
        return {key: self._place(name, value) for key, value in values.items()}

    def _place(self, name: str, text: str) -> str:
        """The text with this machine's addresses and folders."""
        places = {
            "@postgres/": f"@127.0.0.1:{self.postgres.port}/",
            "@redis:6379": f"@127.0.0.1:{self._ports['redis']}",
            "http://execution-api:8080": f"http://127.0.0.1:{self._ports['execution-api']}",
            "/opt/airflow": str(ROOT),
            "/tmp/": f"{self.home(name)}/tmp/",
        }
        return re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], text)

    def _words(self, name: str, command: list[str]) -> list[str]:
        words = [self._place(name, word) for word in command]
        if name == "redis":  # its port and address are the image's defaults
            words[-1] = words[-1].replace("<<END", f"<<END\nport {self._ports['redis']}\nbind 127.0.0.1")
        return words

    def _prepare(self) -> None:
        """What the images bring with them, and the volume of logs, which all may write.

        Users of their own must reach their homes by no more than anybody's rights: `os.access`, by which Airflow looks
        at the bundle, knows of no other.
        """
        self.state.parent.chmod(0o711)
        (self.state / "logs").mkdir()
        (self.state / "logs").chmod(0o775)
        entrypoint = self.state / "docker-entrypoint.sh"
        entrypoint.write_text(_ENTRYPOINT)
        entrypoint.chmod(0o755)
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            password = self.env["POSTGRES_PASSWORD"]  # of hexadecimal digits
            connection.execute(f"CREATE ROLE airflow SUPERUSER LOGIN PASSWORD '{password}'")
            connection.execute("CREATE DATABASE airflow OWNER airflow")

    def _check(self, name: str) -> bool:
        service, ports = self._service(name), {"8080": name, "8974": "scheduler"}
        test = self._words(name, service["healthcheck"]["test"][1:])
        test = [str(self._ports[ports[word]]) if word in ports else word for word in test]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(test, env=self.environment(name), cwd=ROOT, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.check_seconds[name] = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return done.returncode == 0

    def _up(self) -> bool:
        for name, process in self.processes.items():
            if code := process.poll():
                raise RuntimeError(f"{name} has ended with {code}: {self.log(name)}")
        return self.healthy()

    def _signal(self, name: str, number: signal.Signals) -> None:
        from demo.guard import members

        process = self.processes.pop(name)
        if number is not signal.SIGKILL:
            os.kill(process.pid, number)
            grace = {"15m": 900, "1m": 60, None: 10}[self._service(name).get("stop_grace_period")]
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        while left := members([process.pid]):  # Docker kills what does not end in time
            for each in left:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            time.sleep(0.1)
        process.wait(60)


def _mounted(folder: Path, user: int | None) -> bool:
    """Makes the folder a disk of 64 MB of the user's, if that is possible."""
    if user is None:
        return False
    options = f"size=64m,uid={user},gid=0,mode=0750"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "scratch", folder], capture_output=True)
    return done.returncode == 0


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", folder], check=True)


def installed() -> bool:
    """Whether this machine has what the images of the file have: Redis."""
    return shutil.which("redis-server") is not None
