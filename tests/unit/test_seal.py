"""What a signature holds, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from data_export.delivery.local.store import LocalStore
from data_export.errors import ConfigError, SignatureRejected
from data_export.layout import SIGNING_KEY
from data_export.seal import Seal, key_in_staging, keys_of_environment

OLD, NEW = b"o" * 32, b"n" * 32
SEAL = Seal([NEW], ("data_export__acme", "scheduled__1"))
PLAN = {"name": "acme", "window": {"start": "a", "end": "b"}, "site_id": ["1", "2"], "limit": None, "é": 1.5}


def test_what_was_signed_is_opened_in_any_order_of_keys() -> None:
    signed = SEAL.sign("plan", PLAN)
    assert SEAL.open("plan", dict(reversed(signed.items()))) == PLAN


@pytest.mark.parametrize(
    "value",
    [
        PLAN,
        None,
        [],
        "plan",
        SEAL.sign("plan", PLAN) | {"name": "other"},
        SEAL.sign("plan", PLAN) | {"more": None},
        SEAL.sign("plan", PLAN) | {"site_id": ["2", "1"]},
        SEAL.sign("plan", PLAN) | {"signature": None},
        SEAL.sign("plan", PLAN) | {"signature": "é"},
        SEAL.sign("plan", PLAN) | {"signature": ["a"]},
        SEAL.sign("extracted", PLAN),
        Seal([OLD], SEAL.run).sign("plan", PLAN),
        Seal([NEW], ("data_export__acme", "scheduled__2")).sign("plan", PLAN),
        Seal([NEW], ("data_export__other", "scheduled__1")).sign("plan", PLAN),
    ],
)
def test_all_else_is_refused(value: Any) -> None:
    with pytest.raises(SignatureRejected, match="the plan of run data_export__acme scheduled__1 is not what"):
        SEAL.open("plan", value)


def test_a_key_is_replaced_without_losing_a_run() -> None:
    both = Seal([NEW, OLD], SEAL.run)
    assert both.open("plan", Seal([OLD], SEAL.run).sign("plan", PLAN)) == PLAN
    assert SEAL.open("plan", both.sign("plan", PLAN)) == PLAN


def test_a_seal_shows_no_key() -> None:
    assert "nnnn" not in repr(SEAL)


def test_keys_of_the_environment() -> None:
    assert keys_of_environment({}) == keys_of_environment({"DATA_EXPORT_SIGNING_KEY": " "}) == []
    both = f"{NEW.decode()}, {OLD.decode()}\n"
    assert keys_of_environment({"DATA_EXPORT_SIGNING_KEY": both}) == [NEW, OLD]
    with pytest.raises(ConfigError, match="fewer than 32 characters") as raised:
        keys_of_environment({"DATA_EXPORT_SIGNING_KEY": f"{NEW.decode()},hunter2"})
    assert "hunter2" not in str(raised.value)


async def test_staging_keeps_a_key_that_all_workers_read(tmp_path: Path) -> None:
    key = await key_in_staging(LocalStore(tmp_path))
    assert len(key) == 64
    assert await key_in_staging(LocalStore(tmp_path)) == key
    assert await key_in_staging(LocalStore(tmp_path / "other")) != key


async def test_an_emptied_key_signs_nothing(tmp_path: Path) -> None:
    await key_in_staging(LocalStore(tmp_path))
    (tmp_path / SIGNING_KEY).write_bytes(b"")
    with pytest.raises(ConfigError, match="holds no signing key: remove it"):
        await key_in_staging(LocalStore(tmp_path))
