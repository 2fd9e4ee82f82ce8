"""How a window's records are held against what the source has today."""

import hashlib
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from data_export.pipeline import drift as drifting
from data_export.pipeline.drift import Source, _Record, compare, drift
from data_export.pipeline.expected import expected, sampled
from data_export.transform import encoding
from data_export.transform.encoding import lines_of
from tests.pipeline.test_audit import FOLDER, delivery, export, file, name_of
from tests.unit.memory_store import MemoryStore


@pytest.mark.parametrize("there", [b"not ours\n", b'{\n "pretty": 1\n}\n', b"no line end"])
def test_drift_of_a_file_that_is_not_ours_is_not_known(there: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def extracted(_source: Any, _window: Any, _site_id: UUID, folder: Path) -> str:
        (folder / "data").write_bytes(b"")
        return "another"

    monkeypatch.setattr(drifting, "_extracted", extracted)
    store = MemoryStore()
    store.objects[name_of(1)] = there
    kept = file(bytes=len(there), sha256=hashlib.sha256(there).hexdigest(), records_sha256="")
    assert drift(cast("Source", None), kept, store).unknown == "the file at the target is not one of ours"


def test_drift_of_a_kept_file_that_nobody_could_read_is_counted_once_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def extracted(_source: Any, _window: Any, _site_id: UUID, folder: Path) -> str:
        (folder / "data").write_bytes(b"")
        return "another"

    monkeypatch.setattr(drifting, "_extracted", extracted)
    store = MemoryStore()
    kept = file(bytes=0, sha256="", records_sha256="", work_orders=None)
    assert drift(cast("Source", None), kept, store).unknown == "the file at the target is not as delivered"
    store.objects[name_of(1)] = b""
    found = drift(cast("Source", None), kept, store)
    assert (found.delivered, found.gone, found.unknown) == (None, 0, "")


def test_a_line_without_an_end_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_LONGEST", 3 << 20)
    with (tmp_path / "file").open("wb") as sink:
        sink.truncate(1 << 30)
    with pytest.raises(ValueError, match="a line is longer than any record"):
        next(lines_of(tmp_path / "file", "json"))


def test_drift_is_of_the_sites_and_the_type_that_the_file_names_today() -> None:
    other = f"{UUID(int=5)}/data/work-orders-timeline/{name_of(2).rpartition('/')[2]}"
    states = name_of(3).replace("work-orders-timeline", "work-orders-states")
    delivered = expected([delivery(1, name_of(1)), delivery(2, other), delivery(3, states)], 9)
    assert [one.uri for one in sampled(delivered, export(), MemoryStore().uri, None)] == [FOLDER + name_of(1)]


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
