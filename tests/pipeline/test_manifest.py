"""The manifest of a window: last, stable under repeats, and all that a loader needs."""

import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from data_export import layout
from data_export.config.collisions import colliding
from data_export.config.models import EXPORT
from data_export.content import Content
from data_export.delivery.base import StoredObject
from data_export.errors import ObjectRefused, OverwriteRefused
from data_export.pipeline.manifest import SCHEMA_FILE, deliver_manifest, schema_text
from data_export.pipeline.receipts import make_receipt
from tests.pipeline.staged_run import NOW, SITE, WINDOW, StagedRuns, export_to, plan_of, stage
from tests.unit.memory_store import MemoryStore

OTHER = UUID(int=7)
TYPE = "work-orders-timeline"
KEY = layout.manifest_key(TYPE, WINDOW)
VALID = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
sys.path.insert(0, str(Path(__file__).parents[2] / "include" / "loaders" / "python"))


class Runs(StagedRuns):
    """Runs of two sites with a manifest."""

    def __init__(self, folder: Path, target: MemoryStore | None = None, **config: object) -> None:
        super().__init__(folder, target, **config)
        exported = export_to("cloud_storage", SITE, OTHER, **config)
        self.export = EXPORT.validate_python(exported.model_dump(mode="json") | {"manifest": True})
        self.folder = folder

    def run(self, one: bytes, other: bytes) -> str:
        plan = plan_of(self.export)
        sites = [
            self.deliver(plan, stage(self.staging, plan, self.folder, data, None, site))
            for site, data in ((SITE, one), (OTHER, other))
        ]
        return deliver_manifest(plan, make_receipt(plan, self.target.uri, sites, NOW), self.target).uri


def read(store: MemoryStore, key: str = KEY) -> dict[str, dict[str, Any]]:
    manifest = json.loads(store.objects[key])
    VALID.validate(manifest)
    return {site["site_id"]: site for site in manifest["sites"]}


def test_the_checked_in_schema_is_what_the_model_says() -> None:
    assert SCHEMA_FILE.read_text() == schema_text(), "stale: python -m data_export.pipeline.manifest"


def test_it_names_every_file_and_a_repeat_leaves_it(tmp_path: Path) -> None:
    store = MemoryStore()
    runs = Runs(tmp_path, store)
    assert runs.run(b"{}\n", b"") == store.uri + KEY
    first, written = read(store), store.objects[KEY]
    assert first[str(SITE)]["file"]["key"] == layout.data_key(SITE, TYPE, WINDOW)
    assert (first[str(SITE)]["file"]["work_orders"], first[str(OTHER)]["file"]["bytes"]) == (1, 0)
    assert list(first) == sorted(first)
    assert runs.run(b"{}\n", b"") == store.uri + KEY
    assert store.objects[KEY] is written


def test_a_changed_file_says_what_it_replaced_also_after_repeats(tmp_path: Path) -> None:
    store = MemoryStore()
    runs = Runs(tmp_path, store)
    runs.run(b"{}\n", b"")
    first = read(store)
    for _ in range(2):
        runs.run(b"[]\n", b"")
        second = read(store)
        assert second[str(SITE)]["replaced"] == first[str(SITE)]["file"] != second[str(SITE)]["file"]
        assert second[str(OTHER)] == first[str(OTHER)]


def test_under_revision_and_where_nothing_may_be_replaced_it_has_revisions(tmp_path: Path) -> None:
    def refuse(call: str, key: str) -> None:
        if call == "replace" and key in store.objects:
            raise OverwriteRefused(f"{key} may not be replaced")

    for if_exists in ("revision", "replace"):
        store = MemoryStore()
        runs = Runs(tmp_path, store, if_exists=if_exists)
        runs.run(b"{}\n", b"")
        if if_exists == "replace":
            store.fault = refuse
            store.objects[layout.data_key(SITE, TYPE, WINDOW)] = b"[]\n"  # somebody with more rights replaced it
        uri = runs.run(b"[]\n", b"")
        second = layout.manifest_key(TYPE, WINDOW, 2)
        assert uri == store.uri + second
        assert read(store, second)[str(SITE)]["replaced"]["work_orders"] == 1
        assert runs.run(b"[]\n", b"") == uri
        assert layout.manifest_key(TYPE, WINDOW, 3) not in store.objects


def test_the_newest_is_found_where_the_first_was_moved_away(tmp_path: Path) -> None:
    target = MemoryStore()
    runs = Runs(tmp_path, target, if_exists="revision")
    runs.run(b"1\n", b"1\n")
    second = runs.run(b"2\n", b"1\n")
    del target.objects[KEY]
    assert runs.run(b"2\n", b"1\n") == second
    third = runs.run(b"3\n", b"1\n")
    assert third == second.replace(".r2.", ".r3.")


def test_one_that_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    store = MemoryStore()
    store.objects[KEY] = b"{"
    Runs(tmp_path, store).run(b"{}\n", b"")
    assert read(store)[str(SITE)]["replaced"] is None


def test_one_that_is_archived_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    runs = Runs(tmp_path, store)
    runs.run(b"{}\n", b"")

    async def read(key: str) -> AsyncIterator[bytes]:
        raise ObjectRefused(f"{key} is archived: restore it")
        yield b""

    monkeypatch.setattr(store, "read", read)
    assert runs.run(b"{}\n", b"") == store.uri + KEY


def test_a_kept_file_that_is_archived_is_as_the_manifest_before_says(tmp_path: Path) -> None:
    def refuse(call: str, key: str) -> None:
        if call == "read" and ("/data/" in key or whole):
            raise ObjectRefused(f"{key} is archived: restore it")

    class Archive(MemoryStore):
        def _stored(self, key: str) -> StoredObject:
            return StoredObject(key, Content.of_bytes(self.objects[key], sha256=knows).digests)

    store, whole, knows = Archive(), False, True
    runs = Runs(tmp_path, store, if_exists="keep")
    runs.run(b"{}\n", b"")
    first = read(store)[str(SITE)]
    store.fault = refuse
    for _ in range(2):
        runs.run(b"[]\n{}\n", b"")
        kept = read(store)[str(SITE)]
        assert (kept["file"], kept["replaced"], kept["newer_kept_back"]) == (first["file"], None, True)
    knows = False
    runs.run(b"[]\n{}\n", b"")
    unknown = {"work_orders": None, "sha256": "", "records_sha256": ""}
    kept = read(store)[str(SITE)]
    assert (kept["file"], kept["replaced"]) == (first["file"] | unknown, None)
    whole = knows = True
    runs.run(b"[]\n{}\n", b"")
    assert read(store)[str(SITE)]["file"] == first["file"] | {"work_orders": None}


def test_it_is_of_a_target_only_and_of_one_export_at_each() -> None:
    with pytest.raises(ValueError, match="needs a target"):
        EXPORT.validate_python(export_to("email", SITE).model_dump(mode="json") | {"manifest": True})
    values = export_to("cloud_storage", SITE).model_dump(mode="json")
    one, two = ({**values, "site_id": [str(site)]} for site in (SITE, OTHER))
    for manifests, found in ((False, []), (True, ["a", "b"])):
        exports = {
            name: EXPORT.validate_python(each | {"manifest": manifests}) for name, each in (("a", one), ("b", two))
        }
        assert [name for name, *_ in colliding(exports)] == found


def test_a_loader_needs_no_more_than_manifests(tmp_path: Path) -> None:
    from delivered import lines, new_files

    runs = Runs(tmp_path, if_exists="revision")
    root, loaded = tmp_path / "target", dict[str, str]()

    def load() -> list[tuple[int, list[str]]]:
        found = new_files(root, loaded)
        loaded.update(entry for _, entry in found)
        return sorted((file.revision, list(lines(file))) for file, _ in found)

    plan = plan_of(runs.export)
    runs.deliver(plan, stage(runs.staging, plan, tmp_path, b"{}\n"))
    assert load() == []  # half a window is none
    runs.run(b"{}\n", b"")
    assert load() == [(1, []), (1, ["{}"])]
    assert load() == []
    runs.run(b"[]\n", b"")
    assert load() == [(2, ["[]"])]
    assert load() == []
    for colon in ("-", "$1", "%3A"):  # as they are copied to Windows
        copy = tmp_path / f"copied{colon}"
        for path in (path for path in root.rglob("*") if path.is_file()):
            target = copy / path.relative_to(root).as_posix().replace(":", colon)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        assert [entry for _, entry in new_files(copy, {})] == [entry for _, entry in new_files(root, {})]


def test_a_loader_sees_a_file_that_is_again_what_it_was_before(tmp_path: Path) -> None:
    from delivered import lines, new_files

    runs, loaded, seen = Runs(tmp_path), dict[str, str](), list[list[str]]()
    for content in (b"{}\n", b"[]\n", b"{}\n", b"{}\n"):
        runs.run(content, b"")
        found = new_files(tmp_path / "target", loaded)
        loaded.update(entry for _, entry in found)
        seen.append([line for file, _ in found for line in lines(file)])
    assert seen == [["{}"], ["[]"], ["{}"], []]
