from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connectors.sftp.spoken import Spoken, SpokenServer


@pytest.fixture
def spoken() -> type[Spoken]:
    return type("SpokenHere", (Spoken,), {})


@pytest.fixture
def server(keys: Path, tmp_path: Path, spoken: type[Spoken]) -> Iterator[SpokenServer]:
    (tmp_path / "keys").symlink_to(keys / "keys")
    with SpokenServer(tmp_path, spoken) as server:
        yield server
