"""What a try that failed may have been: a success whose answer was lost, or one that comes later."""

import asyncio
import ssl
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import certifi
import pytest

from data_export.content import Digests
from data_export.delivery.base import StoredObject
from data_export.delivery.retry import Patience, persist, trusted, why_unanswered
from data_export.errors import ObjectExists, TargetUnavailable

OURS = StoredObject("a", Digests(1))


@dataclass
class Server:
    """Refuses what is there, and loses the first write: it answers nothing, and stores it after so many looks."""

    lands_after: int
    there: StoredObject | None = None
    writes: int = 0
    looks: int = 0

    async def look(self) -> StoredObject | None:
        found = OURS if self.there is OURS else None
        self.looks += 1
        if self.looks >= self.lands_after:
            self.there = self.there or OURS
        return found

    async def write(self) -> StoredObject:
        self.writes += 1
        if self.there:
            raise ObjectExists("a is there already")
        if self.writes == 1:
            self.there = OURS if self.lands_after == 0 else None
            raise TargetUnavailable("no answer")
        self.there = OURS
        return OURS

    async def persist(self) -> StoredObject:
        return await persist(Patience(first_pause=0), self.look, self.write)


@pytest.mark.parametrize(("lands_after", "writes"), [(0, 1), (1, 2), (100, 2)])
async def test_a_write_whose_answer_is_lost_is_ours_whenever_it_lands(lands_after: int, writes: int) -> None:
    server = Server(lands_after)
    assert await server.persist() is OURS
    assert server.writes == writes


@pytest.mark.parametrize("lands_after", [0, 1, 100])
async def test_the_first_try_is_told_what_is_there(lands_after: int) -> None:
    server = Server(lands_after, there=OURS)
    with pytest.raises(ObjectExists):
        await server.persist()


async def test_what_another_wrote_meanwhile_is_not_ours() -> None:
    server = Server(lands_after=1)
    theirs = StoredObject("a", Digests(2))

    async def look() -> StoredObject | None:
        server.there = theirs
        return await server.look()

    with pytest.raises(ObjectExists):
        await persist(Patience(first_pause=0), look, server.write)


def test_authorities_are_read_once_and_again_when_their_file_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, all_of_them = tmp_path / "authorities.pem", Path(certifi.where()).read_text()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    for content in (all_of_them, all_of_them[: all_of_them.index("-----END CERTIFICATE-----") + 26]):
        path.write_text(content)
        context = trusted()
        assert trusted() is context
        alone = trusted(only=str(path))
        assert isinstance(alone, ssl.SSLContext)
        assert len(alone.get_ca_certs()) == content.count("BEGIN")


async def test_a_server_is_left_alone_as_long_as_it_asks_but_no_longer_than_a_silence_is_borne() -> None:
    """And the last try is the end at once."""
    begun: list[float] = []

    async def busy() -> None:
        begun.append(time.monotonic())
        problem = TargetUnavailable("busy")
        problem.wait = 0.2 if len(begun) == 1 else 3600
        raise problem

    with pytest.raises(TargetUnavailable):
        await asyncio.wait_for(Patience(tries=3, first_pause=0, answer=0.5).retry(busy), 5)
    first, second = (later - earlier for earlier, later in pairwise(begun))
    assert first >= 0.2
    assert second >= 0.5


def test_a_reason_is_looked_for_in_very_long_words_too() -> None:
    """A server chooses what libraries repeat of it: no search may take the square of its length."""
    assert why_unanswered(OSError("x" * 1_000_000)) == "OSError"
    assert why_unanswered(OSError("timed out at host.example/refused")) == "the server is silent (OSError)"
