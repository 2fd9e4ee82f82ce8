"""The whole demo, platform and Airflow, from nothing to ready."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.airflow import UI_PORT, Airflow
from demo.data import DemoData
from demo.platform import EmbeddedPlatform
from demo.rest import AirflowApi, wait_for

READY_SECONDS = 180
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
    say(f"starting PostgreSQL, Cloud Storage, S3, SFTP and SMTP servers (state: {state})")
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
        airflow.start()
        say("starting Airflow: api-server, scheduler, dag-processor, triggerer")
        wait_for("Airflow is healthy", airflow.ready, READY_SECONDS)
        yield Session(platform, airflow, data)


def sayer() -> Say:
    """Prints lines with the seconds since now in front."""
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:6.1f} s] {text}", flush=True)

    return say
