from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.servers.sftp import SftpKeys, SftpServer
from tests.connectors.contract import DATA_KEY
from tests.connectors.sftp.unruly import Unruly


@pytest.fixture
def unruly() -> type[Unruly]:
    return type("UnrulyHere", (Unruly,), {})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    SftpKeys(folder / "keys")
    return folder


@pytest.fixture
def server(keys: Path, tmp_path: Path, unruly: type[Unruly]) -> Iterator[SftpServer]:
    (tmp_path / "keys").symlink_to(keys / "keys")
    with SftpServer(tmp_path, sftp=unruly) as server:
        yield server


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the waits for what an embedded server forgets at once."""
    monkeypatch.setattr("data_export.delivery.sftp.sessions.turns._FORGETS_SECONDS", 0.05)


@pytest.fixture
def place(server: SftpServer) -> Path:
    """Where the file of DATA_KEY lies on the server."""
    return server.root / "target" / DATA_KEY
