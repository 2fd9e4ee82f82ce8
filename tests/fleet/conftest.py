"""One fleet for all tests of it, with the demo's customers, and what its command lines showed meanwhile."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.fleet.topology import Fleet, installed
from tests.fleet.trial import Trial, a_fleet


class CommandLines:
    """Every command line that any process of this machine had while the `with` block lasted."""

    def __init__(self) -> None:
        self._raw: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "CommandLines":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def seen(self) -> set[str]:
        return {words.replace(b"\0", b" ").decode(errors="replace").strip() for words in self._raw.copy()}

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            for process in psutil.pids():
                # As little as can be, five times a second of each process: psutil takes ten times as long, Path twice.
                with suppress(OSError), open(f"/proc/{process}/cmdline", "rb", buffering=0) as file:  # noqa: PTH123
                    self._raw.add(file.readall())  # fails where it has ended meanwhile


@pytest.fixture(scope="module")
def command_lines() -> Iterator[CommandLines]:
    with CommandLines() as lines:
        yield lines


@pytest.fixture(scope="module")
def trial(command_lines: CommandLines) -> Iterator[Trial]:
    if not installed():
        pytest.skip("no redis-server: the compose file's services are not run (apt-get install redis-server)")
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, a_fleet(Path(folder), workers=1) as trial:
        yield trial


@pytest.fixture(scope="module")
def fleet(trial: Trial) -> Fleet:
    return trial.fleet
