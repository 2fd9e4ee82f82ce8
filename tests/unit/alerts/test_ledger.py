"""One mail per export and cause a day, on a real store."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data_export.alerts.ledger import (
    claim_send,
    give_back,
    note_alerted,
    note_recovered,
    note_sent,
    take_late_recovered,
    take_place,
    was_alerted,
)
from data_export.delivery.local.store import LocalStore
from data_export.pipeline.staging import remove_older
from data_export.window import ExportWindow

NOW = datetime(2026, 3, 2, 23, 59, tzinfo=UTC)
DAY = timedelta(days=1)
#: When a mark was made whose owner must have been killed by `NOW`. Those of 1970 the ledger would remove as too old.
ABANDONED = ((NOW - timedelta(minutes=21)).timestamp(),) * 2


@pytest.fixture
async def store(tmp_path: Path) -> LocalStore:
    async with LocalStore(tmp_path / "staging") as store:
        return store


async def test_the_first_of_a_day_gets_the_turn_and_repeats_do_not(store: LocalStore) -> None:
    first = await claim_send(store, "acme", "cause", ["run-1 deliver 0"], NOW)
    assert first is not None
    assert first.spoken() == ""
    assert await claim_send(store, "acme", "cause", ["run-1 deliver 1"], NOW) is None
    assert await claim_send(store, "acme", "another", ["run-1 deliver 1"], NOW) is not None
    assert await claim_send(store, "other", "cause", ["run-1 deliver 1"], NOW) is not None


async def test_of_many_workers_at_once_one_gets_the_turn(store: LocalStore) -> None:
    claims = await asyncio.gather(*(claim_send(store, "acme", "cause", [f"site {n}"], NOW) for n in range(20)))
    assert sum(claim is not None for claim in claims) == 1


async def test_the_next_day_says_how_often_since(store: LocalStore) -> None:
    first = await claim_send(store, "acme", "cause", ["run-0"], NOW)
    assert first is not None
    await note_sent(store, first)
    for number in range(1, 4):
        await claim_send(store, "acme", "cause", [f"run-{number}"], NOW)
    await claim_send(store, "acme", "cause", ["run-3"], NOW)  # a callback that ran twice happened once
    await claim_send(store, "acme", "cause", ["run-4"], NOW + DAY)  # and was killed before its mail was out
    claim = await claim_send(store, "acme", "cause", ["run-5"], NOW + 2 * DAY)
    assert claim is not None
    # runs 1 to 4 after the mail that told of run 0, and the one that this mail tells of
    assert (str(claim.last), claim.times) == ("2026-03-02", 5)
    assert "2026-03-02; since then it has happened 5 more times" in claim.spoken()


async def test_a_turn_given_back_is_the_next_ones(store: LocalStore) -> None:
    claim = await claim_send(store, "acme", "cause", ["run-1"], NOW)
    assert claim is not None
    await give_back(store, claim)
    again = await claim_send(store, "acme", "cause", ["run-2"], NOW)
    assert again is not None
    assert again.spoken() == ""  # nobody was told


async def test_a_turn_whose_owner_was_killed_is_another_s_later(store: LocalStore, tmp_path: Path) -> None:
    claim = await claim_send(store, "acme", "cause", ["run-1"], NOW)
    assert claim is not None
    for minutes, is_free in ((19, False), (21, True), (0, False), (21, True), (0, False)):
        then = (NOW - timedelta(minutes=minutes)).timestamp()
        for mark in (tmp_path / "staging" / claim.key).parent.glob("mail*"):  # the next one may be killed, too
            if minutes:
                os.utime(mark, (then, then))
        assert (await claim_send(store, "acme", "cause", ["run-1"], NOW) is not None) == is_free, minutes
    await note_sent(store, claim)
    os.utime(tmp_path / "staging" / claim.key, ABANDONED)
    assert await claim_send(store, "acme", "cause", ["run-2"], NOW) is None


async def test_of_many_who_take_over_at_once_one_gets_the_turn(store: LocalStore, tmp_path: Path) -> None:
    for _ in range(3):
        for mark in (tmp_path / "staging").rglob("mail*"):
            os.utime(mark, ABANDONED)
        claims = await asyncio.gather(*(claim_send(store, "acme", "cause", ["run-1"], NOW) for _ in range(8)))
        assert sum(claim is not None for claim in claims) == 1
    (claim,) = filter(None, claims)
    await note_sent(store, claim)
    later = await claim_send(store, "acme", "cause", ["run-2"], NOW + DAY)
    assert later is not None
    assert (str(later.last), later.times) == ("2026-03-02", 1), "marks are no occurrences"
    assert later.key.endswith("2026-03-03/mail")
    await remove_older(store, "", datetime.now(UTC) + DAY)
    assert not [path for path in (tmp_path / "staging").rglob("*") if path.is_file()]


async def test_a_recovery_that_did_not_get_out_makes_nothing_news(store: LocalStore) -> None:
    recovered = await take_late_recovered(store, "acme", "cause", NOW)
    assert recovered is not None
    claim = await claim_send(store, "acme", "cause", ["run-1"], NOW)
    assert claim is not None
    assert not claim.after_recovery
    await note_recovered(store, "acme", recovered, NOW)
    claim = await claim_send(store, "acme", "cause", ["run-1"], NOW)
    assert claim is not None
    assert claim.after_recovery


async def test_a_recovery_whose_reporter_was_killed_is_another_s_later(store: LocalStore, tmp_path: Path) -> None:
    recovered = await take_late_recovered(store, "acme", "cause", NOW)
    assert recovered is not None
    assert await take_late_recovered(store, "acme", "cause", NOW) is None
    os.utime(tmp_path / "staging" / recovered.key, ABANDONED)
    assert await take_late_recovered(store, "acme", "cause", NOW) is not None
    await note_recovered(store, "acme", recovered, NOW)
    os.utime(tmp_path / "staging" / recovered.key, ABANDONED)
    assert await take_late_recovered(store, "acme", "cause", NOW) is None


async def test_of_the_exports_that_fail_alike_on_a_day_the_first_ten_have_a_place(store: LocalStore) -> None:
    places = await asyncio.gather(*(take_place(store, "cause", NOW) for _ in range(25)))
    assert sorted(place.number for place in places) == [0] * 15 + list(range(1, 11))
    assert (await take_place(store, "another", NOW)).number == 1
    assert (await take_place(store, "cause", NOW + DAY)).number == 1


async def test_a_place_given_back_is_the_next_ones(store: LocalStore) -> None:
    places = [await take_place(store, "cause", NOW) for _ in range(11)]
    for place in (places[3], places[10]):
        await give_back(store, place)
    assert [(await take_place(store, "cause", NOW)).number for _ in range(2)] == [4, 0]


async def test_what_is_old_is_removed(store: LocalStore, tmp_path: Path) -> None:
    claim = await claim_send(store, "acme", "cause", ["run-1"], NOW)
    assert claim is not None
    await note_sent(store, claim)
    much_later = datetime.now(UTC) + 40 * DAY
    claim = await claim_send(store, "acme", "cause", ["run-2"], much_later)
    assert claim is not None
    assert claim.last is None
    assert not list((tmp_path / "staging").rglob("2026-03-02/*"))


async def test_windows_whose_failure_was_told_are_known(store: LocalStore) -> None:
    window = ExportWindow(NOW - DAY, NOW)
    assert not await was_alerted(store, "acme", window)
    await note_alerted(store, "acme", window)
    assert await was_alerted(store, "acme", window)
    assert not await was_alerted(store, "acme", ExportWindow(NOW, NOW + DAY))
