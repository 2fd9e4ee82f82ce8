from pathlib import Path

import pytest

from tests.unit.images.world import World
from tests.unit.memory_store import CopyingStore, MemoryStore


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, MemoryStore("memory://source/"), MemoryStore("memory://target/"))


@pytest.fixture
def copying(tmp_path: Path) -> World:
    return World(tmp_path, MemoryStore("memory://source/"), CopyingStore("memory://target/"))


@pytest.fixture
def sizes_only(tmp_path: Path) -> World:
    return World(tmp_path, MemoryStore("memory://source/"), MemoryStore("memory://target/", checksums=False))
