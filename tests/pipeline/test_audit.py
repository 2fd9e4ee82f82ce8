"""What an audit expects of receipts, what it costs, and how a window's records are held against the source's."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from data_export.config.models import EXPORT, CustomerExport
from data_export.content import Digests
from data_export.delivery.base import StoredObject
from data_export.errors import AccessDenied, CredentialsRefused
from data_export.pipeline.audit import Audited, AuditRules, audit
from data_export.pipeline.drift import _Record, compare
from data_export.pipeline.expected import Delivered, Delivery, Expected, expected, fix_of
from tests.pipeline.staged_run import SITE, export_to
from tests.unit.memory_store import MemoryStore

AT = datetime(2025, 3, 20, tzinfo=UTC)
DATA = f"{SITE}/data/work-orders-timeline"
FOLDER = "memory://store/"
SUMS = {"bytes": 2, "sha256": hashlib.sha256(b"1\n").hexdigest()}


def name_of(day: int, suffix: str = ".json") -> str:
    return f"{DATA}/2025-03-{day:02}_00:00:00_2025-03-{day + 1:02}_00:00:00{suffix}"


def delivery(day: int, *names: str, documents: tuple[str, ...] = (), run: str = "run", **more: Any) -> Delivery:
    site = {"site_id": str(SITE), "outcome": "created", "work_orders": 1, "images": None, **SUMS}
    receipt = {
        "window": {"start": f"2025-03-{day:02}T00:00:00+00:00", "end": f"2025-03-{day + 1:02}T00:00:00+00:00"},
        "delivered_at": AT.isoformat(),
        "target": FOLDER,
        "sites": [site | {"uri": FOLDER + name} for name in names],
        "documents": [{"uri": FOLDER + name, **SUMS} for name in documents],
    }
    return Delivery(receipt | more, "data_export__acme", run)


def listed(*deliveries: Delivery) -> dict[str, tuple[str, bool]]:
    found = expected(deliveries, 100).files
    return {one.uri.removeprefix(FOLDER): (one.run_id, one.newest) for one in found}


def test_each_address_is_as_its_newest_receipt_says() -> None:
    assert listed(delivery(1, name_of(1), run="new"), delivery(1, name_of(1), run="old")) == {name_of(1): ("new", True)}
    second = name_of(1, ".r2.json")
    found = listed(delivery(1, second, run="new"), delivery(1, name_of(1), run="old"))
    assert found == {second: ("new", True), name_of(1): ("old", False)}


def test_a_file_that_was_packed_otherwise_since_is_not_looked_for() -> None:
    assert [*listed(delivery(1, name_of(1, ".parquet")), delivery(1, name_of(1)))] == [name_of(1, ".parquet")]


def test_receipts_of_an_earlier_version_and_events_of_others_are_no_fault() -> None:
    old = delivery(1, name_of(1))
    del old.receipt["documents"]
    assert [*listed(old, Delivery({}, "", ""), Delivery({"window": "x"}, "", ""))] == [name_of(1)]


def test_more_than_memory_is_for_is_cut_and_said() -> None:
    found = expected([delivery(day, name_of(day)) for day in range(1, 20)], 5)
    assert (len(found.files), found.cut) == (5, True)


def looked(store: Any, files: int, rules: AuditRules, at: datetime = AT) -> Audited:
    wanted = expected([delivery(day, name_of(day)) for day in range(1, files + 1)], 1_000)
    return audit(store, wanted, rules, None, at + timedelta(days=30))


class Listed(MemoryStore):
    """A store that lists."""

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        self.calls["list"] += 1
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield StoredObject(key, Digests(len(self.objects[key])), AT)


def test_a_default_audit_costs_a_listing_and_a_sample() -> None:
    store = Listed()
    store.objects |= {name_of(day): b"1\n" for day in range(1, 28)}
    seen = looked(store, 27, AuditRules(sample=3))
    assert (seen.objects, seen.read, seen.findings) == (27, 3, [])
    assert dict(store.calls) == {"list": 1, "read": 3}


def test_a_listing_of_a_million_objects_is_not_held() -> None:
    """Of the names in a folder those are kept that are looked for."""

    class Name(str):
        __slots__ = ()
        gone = 0

        def __del__(self) -> None:
            Name.gone += 1

    class Million(Listed):
        held = 0

        async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
            same = Digests(2)
            for number in range(1_000_000):
                yield StoredObject(Name(number), same, AT)
                if number % 1_000 == 0:
                    self.held = max(self.held, number - Name.gone)
            async for stored in super().list(prefix):
                yield stored

    store = Million()
    store.objects |= {name_of(day): b"1\n" for day in range(1, 28)}
    seen = looked(store, 27, AuditRules(sample=0))
    assert (seen.objects, seen.findings) == (27, [])
    assert store.held < 10


def test_where_listing_is_not_allowed_each_is_asked_for() -> None:
    class Refusing(MemoryStore):
        async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
            raise AccessDenied("no storage.objects.list")
            yield

    store = Refusing()
    store.objects |= {name_of(day): b"1\n" for day in range(2, 28)}
    seen = looked(store, 27, AuditRules(sample=0))
    assert [one.uri for _, one in seen.findings] == [FOLDER + name_of(1)]
    assert store.calls["stat"] == 27


def test_whoever_is_not_let_in_does_not_say_that_all_is_missing() -> None:
    store = MemoryStore()

    def refuse(call: str, key: str) -> None:
        raise CredentialsRefused("wrong key")

    store.fault = refuse
    with pytest.raises(CredentialsRefused):
        looked(store, 9, AuditRules())


def test_what_cannot_be_read_hides_no_other() -> None:
    store = MemoryStore()
    store.objects |= {name_of(day): b"1\n" for day in range(1, 4)}

    def refuse(call: str, key: str) -> None:
        if key == name_of(2):
            raise AccessDenied("not this one")

    store.fault = refuse
    seen = looked(store, 3, AuditRules(full=True))
    assert [(one.uri, one.found) for _, one in seen.findings] == [(FOLDER + name_of(2), "unreadable")]


def test_it_ends_in_time_and_says_what_is_left() -> None:
    store = MemoryStore()
    store.objects |= {name_of(day): b"1\n" for day in range(1, 10)}
    seen = looked(store, 9, AuditRules(seconds=-1))
    assert (seen.objects, seen.left) == (0, 9)


def test_what_a_run_writes_meanwhile_is_left_to_the_next_audit() -> None:
    store = MemoryStore()
    store.objects[name_of(1)] = b"newer\n"
    store.modified[name_of(1)] = AT + timedelta(days=31)
    assert looked(store, 1, AuditRules(full=True)).findings == []


def export(**config: Any) -> CustomerExport:
    made = export_to("cloud_storage", SITE, **config).model_dump(mode="json")
    return EXPORT.validate_python(made | {"delivery_receipt": True, "manifest": True})


def file(**changes: Any) -> Expected:
    (found,) = expected([delivery(1, name_of(1))], 9).files
    return Expected(**({name: getattr(found, name) for name in Expected.__slots__} | changes))


@pytest.mark.parametrize(
    ("kind", "found", "config", "changes", "fix"),
    [
        ("data", "missing", {}, {}, ""),
        ("data", "other size", {"if_exists": "replace"}, {}, ""),
        ("data", "other size", {"if_exists": "revision"}, {}, ""),
        ("data", "other content", {"if_exists": "keep"}, {}, "if_exists is keep"),
        ("data", "missing", {"if_exists": "keep"}, {}, ""),
        ("data", "missing", {"if_exists": "revision"}, {"newest": False}, "restore it from a copy"),
        ("data", "missing", {}, {"site_id": str(UUID(int=5))}, "its site is no longer"),
        ("data", "missing", {}, {"uri": FOLDER + name_of(1, ".parquet")}, "another name for it now"),
        ("data", "unreadable", {}, {}, "let the export's identity read it"),
        ("image", "missing", {"if_exists": "keep"}, {}, ""),
        ("image", "other content", {"if_exists": "revision"}, {}, "if_exists is revision"),
        ("image", "missing", {"export_images": False}, {}, "export_images is false"),
        ("receipt", "other content", {"if_exists": "keep"}, {}, ""),
        ("manifest", "missing", {}, {"site_id": ""}, ""),
        ("linked file", "missing", {}, {}, "clear the run"),
    ],
)
def test_what_a_run_can_make_good(kind: Any, found: str, config: dict[str, Any], changes: Any, fix: str) -> None:
    said = fix_of(file(**changes), kind, found, export(**config), FOLDER)
    assert (fix in said) if fix else said == ""


def records(*ids: int, text: str = "") -> list[_Record]:
    return [_Record((b'"2025"', f"{number:04}".encode()), f"{number}{text}".encode()) for number in ids]


def test_two_sorted_streams_are_counted_in_one_pass() -> None:
    assert compare(iter(records(1, 2, 3)), iter(records(2, 3, 4, 5))) == (2, 0, 1)
    assert compare(records(1, 2), records(1, 2, text="!")) == (0, 2, 0)
    assert compare([], records(1)) == (1, 0, 0)
    assert compare(records(1), []) == (0, 0, 1)


def test_a_record_with_another_create_date_has_changed() -> None:
    later = [_Record((b'"2026"', b"0001"), b"1")]
    assert compare(records(1, 2), [*records(2), *later]) == (0, 1, 0)


def test_nothing_delivered_is_nothing_to_look_for() -> None:
    assert audit(MemoryStore(), Delivered([]), AuditRules(), None, AT).objects == 0
