"""The whole demo, platform and Airflow, from nothing to ready."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from demo.airflow import UI_PORT, Airflow
from demo.data import DemoData
from demo.platform import EmbeddedPlatform
from demo.rest import AirflowApi, wait_for
from demo.servers.abfs import AbfsServer

READY_SECONDS = 900  # a slow machine takes minutes, and says meanwhile what it waits for
_SILENCE = 8.0  # seconds after which what is under way is said again
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Session:
    platform: EmbeddedPlatform
    airflow: Airflow
    data: DemoData

    @property
    def api(self) -> AirflowApi:
        return self.airflow.api


@contextmanager
def running(state: Path, say: Say, extra: Mapping[str, str] | None = None, port: int = UI_PORT) -> Iterator[Session]:
    """Everything up and healthy while the `with` block lasts; `extra` adds to Airflow's environment.

    Airflow is on `port` where that is free, else on any; 0 asks for any.

    Raises:
        RuntimeError, TimeoutError: something did not start; what did is stopped.
    """
    azure = "Azure Blob Storage, " if AbfsServer.installed() else ""
    say(f"starting PostgreSQL, Cloud Storage, S3, {azure}SFTP and SMTP servers (state: {state})")
    if not azure:
        say("there is no azurite-blob on this machine (npm install -g azurite): nothing goes to Azure Blob Storage")
    with ExitStack() as stack:  # whatever ends it, an interrupt or a fault, what stops is told
        stack.callback(say, "everything is stopped")
        platform = stack.enter_context(EmbeddedPlatform(state))
        environment = {**platform.environment(), **(extra or {})}
        airflow = stack.enter_context(
            Airflow(platform.state, platform.metadata, platform.secrets, environment, port=port)
        )
        stack.callback(say, "stopping Airflow and the servers")
        airflow.prepare()
        data = platform.fill()
        rows = sum(map(len, data.tables.values()))
        say(f"the source holds {rows:,} rows, the image store {len(data.images) - 1:,} images")
        say("making Airflow's tables")
        airflow.start()
        say("starting Airflow: api-server, scheduler, dag-processor, triggerer")
        wait_for("Airflow is healthy", airflow.ready, READY_SECONDS)
        say("Airflow is healthy")
        yield Session(platform, airflow, data)


class Sayer:
    """Prints lines with the seconds since now in front; while the `with` block lasts it is never silent for long."""

    def __init__(self) -> None:
        self._begun = self._last = time.monotonic()
        self._text = ""
        self._over = threading.Event()

    def __call__(self, text: str) -> None:
        self._text = text
        self._print(text)

    def __enter__(self) -> Self:
        self._over.clear()
        self._thread = threading.Thread(target=self._remind, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def _remind(self) -> None:
        while not self._over.wait(1):
            if self._text and time.monotonic() - self._last >= _SILENCE:
                self._print(f"... {self._text}")

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        print(f"[{self._last - self._begun:6.1f} s] {text}", flush=True)
