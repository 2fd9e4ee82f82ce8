"""What an audit expects of receipts, what it costs, and whom it blames."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from data_export.config.models import EXPORT, CustomerExport
from data_export.content import Digests
from data_export.delivery.base import StoredObject
from data_export.errors import (
    AccessDenied,
    CredentialsRefused,
    DataExportError,
    ObjectRefused,
    TargetNotFound,
    TargetRefused,
)
from data_export.images import source_key_of
from data_export.pipeline.audit import Audited, AuditRules, audit
from data_export.pipeline.audit_images import ImagesOf
from data_export.pipeline.expected import Delivered, Delivery, Expected, expected, fix_of
from data_export.pipeline.verify import Verified, files_of, verify
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
    others = [Delivery({}, "", ""), Delivery({"window": "x"}, "", ""), *foreign()]
    assert [*listed(*others, old)] == [name_of(1)]


def test_a_kept_file_that_nobody_could_read_is_looked_for_by_its_size() -> None:
    event, store = delivery(1, name_of(1)), MemoryStore(FOLDER)
    event.receipt["sites"][0] |= {"outcome": "kept", "work_orders": None, "sha256": "", "records_sha256": ""}
    (file,) = expected([event], 9).files
    assert file.work_orders is None
    for data, found in ((b"x" * file.bytes, []), (b"", ["other size"])):
        store.objects[name_of(1)] = data
        seen = audit(store, expected([event], 9), AuditRules(full=True), None, AT)
        assert [one.found for _, one in seen.findings] == found
        reported: list[Verified] = []
        verify(store, files_of(event.receipt), reported.append)
        assert [one.found for one in reported] == (found or ["ok"])


def foreign() -> Iterator[Delivery]:
    """Events with one thing missing or wrong, which anybody may create."""
    for key in ("window", "delivered_at", "target", "sites"):
        event = delivery(2, name_of(2), documents=(f"{SITE}/receipts/x.json",))
        yield Delivery({name: value for name, value in event.receipt.items() if name != key}, "", "")
    for key in ("uri", "bytes", "sha256", "work_orders", "site_id"):
        for value in (None, [], {}, *["x"] * (key in ("bytes", "work_orders", "site_id"))):
            event = delivery(2, name_of(2))
            event.receipt["sites"][0][key] = value
            yield event
    yield delivery(2, name_of(2), delivered_at="2025-03-20T00:00:00")
    yield delivery(2, name_of(2), window={"start": "2025-03-20", "end": "2025-03-21"})
    yield delivery(2, documents=("no-site/receipts/x.json",))


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


@pytest.mark.parametrize(
    "refusal", [AccessDenied("no storage.objects.list"), TargetRefused("501 Not Implemented"), TargetNotFound("none")]
)
def test_where_listing_is_not_possible_each_is_asked_for(refusal: DataExportError) -> None:
    class Refusing(MemoryStore):
        async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
            raise refusal
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


def test_what_close_writes_comes_after_the_moment_of_delivery_and_is_not_read_for_that() -> None:
    receipt, late = f"{SITE}/receipts/work-orders-timeline/x.json", f"{SITE}/receipts/x.missing-images.txt"
    store = MemoryStore()
    store.objects |= dict.fromkeys((name_of(1), receipt, late), b"1\n")
    moments = {name_of(1): 0.4, receipt: 60, late: 600}  # seconds after it
    store.modified |= {key: AT + timedelta(seconds=seconds) for key, seconds in moments.items()}
    wanted = expected([delivery(1, name_of(1), documents=(receipt, late))], 9)
    seen = audit(store, wanted, AuditRules(sample=0), None, AT + timedelta(days=1))
    assert (seen.objects, seen.read, seen.findings) == (3, 1, [])


@pytest.mark.parametrize("failed", [0, 250])
def test_of_the_images_of_a_data_file_at_most_200_are_looked_at(failed: int) -> None:
    line = b'{"id":"%s","create_date":null,"file_extension":null}'
    lines = b"".join(line % str(UUID(int=number)).encode() + b"\n" for number in range(399))
    store, made = MemoryStore(), delivery(1, name_of(1))
    store.objects[name_of(1)] = lines
    counts = {"copied": 399 - failed, "failed": failed}
    sums = {"bytes": len(lines), "sha256": hashlib.sha256(lines).hexdigest(), "images": counts}
    made.receipt["sites"][0] |= sums
    images = ImagesOf(MemoryStore(), lambda _site: source_key_of("{input_id}", SITE))
    assert 190 < audit(store, expected([made], 9), AuditRules(), images, AT).images <= 200


@pytest.mark.parametrize("at", ["stat", "read"])
@pytest.mark.parametrize(
    "refusal",
    [AccessDenied("s3://platform-images: no kms:Decrypt"), TargetNotFound("s3://platform-images: no such bucket"),
     ObjectRefused("s3://platform-images/a.png is archived"), CredentialsRefused("s3://platform-images: no key")],
)  # fmt: skip
def test_what_the_platform_s_own_store_refuses_is_told_and_not_held_against_the_target(
    refusal: DataExportError, at: str
) -> None:
    """Some stores refuse an archived or encrypted object when it is read only. What else was found stays found."""
    image = f"{SITE}/inputs/{UUID(int=1)}.png"
    line = f'{{"id":"{UUID(int=1)}","create_date":null,"file_extension":".png"}}\n'.encode()
    store, source = MemoryStore(checksums=False), MemoryStore("s3://platform-images/", checksums=False)
    store.objects |= {name_of(1): line, image: b"pixels"}
    source.objects[image.rpartition("/")[2]] = b"pixels"
    made = delivery(1, name_of(1))
    sums = {"bytes": len(line), "sha256": hashlib.sha256(line).hexdigest(), "images": {"copied": 1}}
    made.receipt["sites"][0] |= sums

    def refuse(call: str, key: str) -> None:
        if call == at:
            raise refusal

    source.fault = refuse
    images = ImagesOf(source, lambda _site: source_key_of("{input_id}{file_extension}", SITE))
    run = partial(audit, store, expected([made, delivery(2, name_of(2))], 9), AuditRules(full=True), images, AT)
    if isinstance(refusal, CredentialsRefused):
        with pytest.raises(CredentialsRefused):
            run()
        return
    seen = run()
    assert [(one.uri, one.found) for _, one in seen.findings] == [(FOLDER + name_of(2), "missing")]
    went = at == "read" and isinstance(refusal, TargetNotFound)  # between look and read, which says nothing of it
    assert (seen.unknown, seen.unknown_reason) == ((0, "") if went else (1, str(refusal)))


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


def test_nothing_delivered_is_nothing_to_look_for() -> None:
    assert audit(MemoryStore(), Delivered([]), AuditRules(), None, AT).objects == 0
