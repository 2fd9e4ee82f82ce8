from collections.abc import AsyncIterator

import pytest

from data_export.content import Content
from data_export.delivery.base import Store

# Before anything imports it: its asserts show their values then, as a test module's own do.
pytest.register_assert_rewrite("tests.connectors.contract")

from tests.connectors.contract import Connect, random_bytes  # noqa: E402


@pytest.fixture
async def store(connect: Connect) -> AsyncIterator[Store]:
    async with connect() as store:
        yield store


@pytest.fixture(scope="session")
def big(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """More than two pieces of 8 MiB, which no test changes."""
    path = tmp_path_factory.mktemp("big") / "big"
    path.write_bytes(random_bytes(17 << 20))
    return Content.of_file(path)
