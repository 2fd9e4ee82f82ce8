"""Airflow as four processes of this machine, configured by environment alone."""

import base64
import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Self

import httpx

from demo.guard import Guard
from demo.platform import Secrets, free_port
from demo.rest import AirflowApi

ROOT = Path(__file__).parents[1]
USER = "admin"
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
#: What would serve logs would do so on all interfaces; the API server reads them from disk.
NO_LOG_SERVER = {"scheduler": ("--skip-serve-logs",), "triggerer": ("--skip-serve-logs",)}
UI_PORT = 8080
#: What the scheduler imports for its tasks.
PRELOAD = ROOT / "deploy" / "preload"
#: How many DAG files share the exports.
SHARDS = 8
#: The DAGs folder, with the customers' DAGs in some files that follow the customer files.
BUNDLE = {
    "name": "dags-folder",
    "classpath": "data_export_airflow.bundle.CustomerFilesBundle",
    "kwargs": {"shards": SHARDS, "refresh_interval": 5},
}
#: In every task's log otherwise: Airflow reads .airflowignore with a name that its library has deprecated.
QUIET = "ignore:GitWildMatchPattern:DeprecationWarning"


class Airflow:
    """Runs Airflow while the `with` block lasts; `wait_until_ready` before use.

    Args:
        state: Airflow's home (`airflow/`) and logs (`logs/`) go below it, and `airflow.env`: what a shell must know to
            run `airflow` and `python -m data_export_airflow` beside it.
        metadata: dsn of its database.
        environment: of the platform: connections and settings.
        port: of the UI, or any where it is taken; 0 is any.
    """

    def __init__(
        self,
        state: Path,
        metadata: str,
        secrets: Secrets,
        environment: Mapping[str, str],
        port: int = UI_PORT,
    ) -> None:
        self.home = state / "airflow"
        self.logs = state / "logs"
        self.password = secrets["airflow_password"][:20]  # for people to paste
        self.url = f"http://127.0.0.1:{free_port(port)}"
        self.api = AirflowApi(self.url, USER, self.password)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        for folder in (self.home, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.settings_file = state / "airflow.env"
        self._own = self._settings(state, metadata, secrets) | dict(environment)
        self.environment = _inherited() | self._own

    def __enter__(self) -> Self:
        _write_secret(self.home / "passwords.json", json.dumps({USER: self.password}))
        own = self._own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        _write_secret(
            self.settings_file, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in own.items())
        )
        with ExitStack() as stack:
            stack.callback(self.api.close)
            self._guard = stack.enter_context(Guard())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
        for child in self._children.values():
            child.wait()

    def prepare(self) -> None:
        """Makes Airflow's tables and the service's pools; begins, and `start` waits for it."""
        self._prepared = self.home / f"prepared-{_fingerprint()}"
        if not self._prepared.exists():
            self._spawn("prepare", sys.executable, "-m", "demo.prepare_airflow")

    def start(self, components: Sequence[str] = COMPONENTS) -> None:
        """Starts the components, once `prepare` has ended well."""
        if "prepare" in self._children:
            self._children["prepare"].wait()
            self.check()
            del self._children["prepare"]
            self._prepared.touch()
        for component in components:
            self._spawn(component, sys.executable, "-m", "airflow", component, *NO_LOG_SERVER.get(component, ()))

    def run(self, *arguments: str) -> None:
        """Runs one of Airflow's commands, e.g. `run("dags", "reserialize")`, to its end.

        Raises:
            subprocess.CalledProcessError: it failed; what it wrote is in its `output`.
        """
        command = [sys.executable, "-m", "airflow", *arguments]
        subprocess.run(command, env=self.environment, cwd=self.home, check=True, capture_output=True)

    def ready(self) -> bool:
        """Whether the API lets us in and says that all components are healthy.

        Raises:
            httpx.TransportError: it does not answer yet.
        """
        self.check()
        try:
            self.api.sign_in()
        except httpx.HTTPStatusError as refusal:
            if refusal.response.is_server_error:  # the file of passwords is empty while Airflow adds one to it
                return False
            raise
        return set(self.api.health().values()) == {"healthy"}

    def check(self) -> None:
        """Looks after the processes.

        Raises:
            RuntimeError: one has ended; with the end of its log.
        """
        for name, child in self._children.items():
            if child.poll():
                raise RuntimeError(
                    f"Airflow's {name} has ended with code {child.returncode}; {self._log(name)} ends:\n"
                    + "\n".join(self._log(name).read_text(errors="replace").splitlines()[-25:])
                )

    def processes(self) -> dict[str, int]:
        """Process id of each component."""
        return {name: child.pid for name, child in self._children.items()}

    def _spawn(self, name: str, *command: str) -> None:
        with self._log(name).open("wb") as log:
            child = subprocess.Popen(
                command,
                env=self.environment | (_preloading(self.environment) if name == "scheduler" else {}),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard.watch(child.pid)
        self._children[name] = child

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _settings(self, state: Path, metadata: str, secrets: Secrets) -> dict[str, str]:
        settings: dict[str, dict[str, object]] = {
            "core": {
                "dags_folder": ROOT / "dags",
                "plugins_folder": ROOT / "plugins",
                "load_examples": False,
                "executor": "LocalExecutor",
                "min_serialized_dag_update_interval": 0,  # an edit that follows another at once counts, too
                "parallelism": 4,  # the default of 32 starts 32 workers at once
                "execution_api_server_url": f"{self.url}/execution/",
                "fernet_key": base64.urlsafe_b64encode(hashlib.sha256(secrets["fernet"].encode()).digest()).decode(),
                "simple_auth_manager_users": f"{USER}:admin",
                "simple_auth_manager_passwords_file": self.home / "passwords.json",
            },
            "database": {
                "sql_alchemy_conn": metadata.replace("postgresql://", "postgresql+psycopg2://"),
                "check_migrations": False,  # `prepare` sees to it; here it would cost each component a second
            },
            "api": {
                "host": "127.0.0.1",
                "port": self.url.rpartition(":")[2],
                "base_url": self.url,
                "workers": 1,
                "secret_key": secrets["api"],
                "expose_stacktrace": True,  # the words of a database error, which are "hidden" otherwise
            },
            "api_auth": {"jwt_secret": secrets["jwt"]},
            "dag_processor": {
                "dag_bundle_config_list": json.dumps([BUNDLE]),
                "dag_bundle_storage_path": self.home / "bundles",
                "min_file_process_interval": 300,  # a changed customer file is noticed by the bundle
                "stale_dag_threshold": 10,
                "parsing_processes": 1,
            },
            # Between two tasks of a run it would sleep for the default's second, which is most of a small run.
            "scheduler": {"parsing_cleanup_interval": 10, "scheduler_idle_sleep_time": 0.25},
            "triggerer": {"capacity": 10},
            # The default of 5 seconds fails the first tasks on a slow machine, whose API server is still warming up.
            "workers": {"execution_api_timeout": 60},
            "logging": {
                "base_log_folder": self.logs / "tasks",
                # Otherwise two lines for every DAG at every parse, and two for every look at a bucket.
                "namespace_levels": "airflow.serialization.definitions.dag=WARNING airflow.models.dag=WARNING "
                "airflow.dag_processing.collection=WARNING "
                "airflow.providers.amazon.aws.utils.connection_wrapper=WARNING",
            },
            "usage_data_collection": {"enabled": False},
        }
        variables = {
            f"AIRFLOW__{section.upper()}__{key.upper()}": str(value)
            for section, keys in settings.items()
            for key, value in keys.items()
        }
        return {
            "AIRFLOW_HOME": str(self.home),
            "DATA_EXPORT_STATE_DIR": str(state),
            "DATA_EXPORT_SIGNING_KEY": secrets["signing"],
            # A proxy of the user's environment must not get what is meant for this machine.
            "NO_PROXY": ",".join(filter(None, ["127.0.0.1,localhost", os.environ.get("NO_PROXY")])),
            "PYTHONWARNINGS": QUIET,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "plugins"), str(ROOT)]),
            **variables,
        }


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _preloading(environment: Mapping[str, str]) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(PRELOAD), environment["PYTHONPATH"]])}


def _inherited() -> dict[str, str]:
    """This process's environment without another Airflow's settings; connections and variables stay."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AIRFLOW__") and name not in ("AIRFLOW_HOME", "AIRFLOW_CONFIG")
    }


def _fingerprint() -> str:
    """Changes with whatever `prepare` sets up: Airflow's version, and the service's own set-up."""
    digest = hashlib.sha256(version("apache-airflow").encode())
    edge = ROOT / "plugins" / "data_export_airflow"
    for path in (*sorted(edge.glob("*.py")), edge / "commands" / "init.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
