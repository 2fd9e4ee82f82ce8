"""The Airflow connection `bad`, and what must come of a setting of it that cannot be used."""

import asyncio
import json
from collections.abc import Callable

import pytest

from data_export.delivery.base import Destination
from data_export.errors import ConfigError

CANARY = "canary-s3cret"


def define(monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    """The connection `bad`."""
    monkeypatch.setenv("AIRFLOW_CONN_BAD", json.dumps(fields))


def opened(place: Destination) -> None:
    async def run() -> None:
        async with place:
            raise AssertionError("it could be opened")

    asyncio.run(run())


def refusal(action: Callable[[], object], words: str = "") -> None:
    """A ConfigError, hence no retry, with the connection's name and without the secret."""
    with pytest.raises(ConfigError, match="Airflow connection 'bad'") as caught:
        action()
    assert words in str(caught.value)
    assert CANARY not in str(caught.value)
    assert "\n" not in str(caught.value)
