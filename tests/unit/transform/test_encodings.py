"""Packed data files: the records of the JSON Lines, whatever packs them, and what common readers make of them."""

import gzip
import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from data_export.layout import Encoding
from data_export.transform import columnar
from data_export.transform.encoding import EncodedFile, decoded, join, look_into
from data_export.transform.transform import TransformResult, transform
from tests.unit.source_kit import SITE, TIMELINE, SourceDatabase
from tests.unit.transform.test_random_histories import histories

GOLDEN = Path(__file__).parent / "golden" / "work-orders-timeline.jsonl"
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
PACKED = tuple(encoding for encoding in ENCODINGS if encoding != "json")


def packed(snapshot: Path, path: Path, encoding: Encoding) -> TransformResult:
    side = (path.with_suffix(".images"), path.with_suffix(".quarantine"))
    return transform(snapshot, path, *side, export_type=TIMELINE, on_invalid="quarantine", encoding=encoding)


def text_of(path: Path, encoding: Encoding) -> bytes:
    return b"".join(map(bytes, decoded(path, encoding)))


@pytest.fixture
def oddities(source: SourceDatabase, tmp_path: Path) -> Path:
    """A snapshot of the source of the golden file."""
    source.connection.execute(GOLDEN.with_name("source.sql").read_text())
    return source.export(tmp_path / "plain").folder / "snapshot"


@pytest.mark.parametrize("encoding", PACKED)
def test_a_packed_file_holds_the_text_of_the_plain_one(oddities: Path, tmp_path: Path, encoding: Encoding) -> None:
    path = tmp_path / "packed"
    result = packed(oddities, path, encoding)
    assert text_of(path, encoding) == GOLDEN.read_bytes()
    assert result.digests.records_sha256 == hashlib.sha256(GOLDEN.read_bytes()).hexdigest()
    assert result.digests.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result.digests.size == path.stat().st_size
    assert look_into(path, encoding) == (result.work_orders, result.digests)


@pytest.mark.parametrize("encoding", PACKED)
def test_the_same_records_give_the_same_bytes(oddities: Path, tmp_path: Path, encoding: Encoding) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert packed(oddities, first, encoding) == packed(oddities, again, encoding)
    assert first.read_bytes() == again.read_bytes()


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(rows=histories())
def test_whatever_the_source_holds_comes_back(
    source: SourceDatabase, tmp_path: Path, rows: dict[str, list[dict[str, Any]]]
) -> None:
    source.clear()
    for table, inserted in rows.items():
        source.insert(table, inserted)
    source.insert("work_order", [{"id": UUID(int=99), "site_id": SITE}])
    exported = source.export(tmp_path)
    for encoding in PACKED:
        packed(exported.folder / "snapshot", tmp_path / "packed", encoding)
        assert text_of(tmp_path / "packed", encoding) == exported.data
        assert look_into(tmp_path / "packed", encoding)[0] == exported.result.work_orders
    readers_agree(tmp_path / "packed", exported.lines)


def readers_agree(path: Path, lines: list[str]) -> None:
    """The values in Parquet are those of the JSON, with jsonb as text."""
    rows = pq.read_table(path).to_pylist()
    assert [as_json(row) for row in rows] == [
        as_text(json.loads(line, parse_float=str, parse_int=str)) for line in lines
    ]


def as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonb(entry) if key in JSONB else as_json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [as_json(entry) for entry in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value if value is None or isinstance(value, str | bool) else float(value)


JSONB = {"metadata", "analyzed_value", "corrected_value"}


def _jsonb(text: str | None) -> Any:
    return None if text is None else json.loads(text, parse_float=str, parse_int=str)


def as_text(value: Any, key: str = "") -> Any:
    if isinstance(value, dict) and key != "metadata":
        return {name: entry if name in JSONB else as_text(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [as_text(entry) for entry in value]
    return float(value) if key in {"code", "progress_score"} and value is not None else value


def test_an_empty_window_is_a_file_that_readers_load(source: SourceDatabase, tmp_path: Path) -> None:
    source.insert("work_order", [{"id": UUID(int=99), "site_id": SITE}])
    snapshot = source.export(tmp_path).folder / "snapshot"
    for encoding in PACKED:
        path = tmp_path / "empty"
        assert packed(snapshot, path, encoding).work_orders == 0
        assert path.stat().st_size > 0
        assert text_of(path, encoding) == b""
        assert look_into(path, encoding)[1].records_sha256 == hashlib.sha256(b"").hexdigest()
    assert polars.read_parquet(path).columns == columnar.RECORD.names
    assert duckdb.read_parquet(str(path)).fetchall() == []


def test_common_readers_load_each_file_without_options(oddities: Path, tmp_path: Path) -> None:
    lines = GOLDEN.read_text().split("\n")[:-1]
    names = {"gzip": "a.json.gz", "zstd": "a.json.zst", "parquet": "a.parquet"}
    paths = {encoding: tmp_path / names[encoding] for encoding in PACKED}
    for encoding, path in paths.items():
        packed(oddities, path, encoding)
    ids = [json.loads(line)["id"] for line in lines]
    assert polars.read_parquet(paths["parquet"])["id"].to_list() == ids
    for path in paths.values():
        read = duckdb.read_parquet if path.suffix == ".parquet" else duckdb.read_json
        assert [str(row[0]) for row in read(str(path)).project("id").fetchall()] == ids
    table = duckdb.read_parquet(str(paths["parquet"])).project("update_date, metadata")
    assert [str(kind) for kind in table.types] == ["TIMESTAMP WITH TIME ZONE", "VARCHAR"]
    with gzip.open(paths["gzip"], "rt", encoding="utf-8", newline="\n") as file:
        assert [line.removesuffix("\n") for line in file] == lines


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_joined_files_are_one_file_of_all_records(oddities: Path, tmp_path: Path, encoding: Encoding) -> None:
    parts = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    for part in parts:
        packed(oddities, part, encoding)
    join(parts, tmp_path / "joined.parquet" if encoding == "parquet" else tmp_path / "joined", encoding)
    joined = next(tmp_path.glob("joined*"))
    assert text_of(joined, encoding) == 3 * GOLDEN.read_bytes()
    assert not any(part.exists() for part in parts)


@pytest.mark.parametrize("encoding", ["json", "gzip", "zstd"])
def test_a_joined_file_is_as_if_its_records_were_packed_at_once(tmp_path: Path, encoding: Encoding) -> None:
    """One member of gzip, one frame of zstd: of several, many readers take the first, here an empty one, for all."""
    texts = [b"", *(b"".join(b'{"site":%d,"number":%d}\n' % (site, n) for n in range(60_000)) for site in (1, 2)), b""]
    for number, text in enumerate((*texts, b"".join(texts))):
        file = EncodedFile(tmp_path / str(number), encoding)
        for start in range(0, len(text), 777_777):
            file.append(memoryview(text)[start : start + 777_777], None)
        file.close()
    join([tmp_path / str(number) for number in range(len(texts))], tmp_path / "joined", encoding)
    assert (tmp_path / "joined").read_bytes() == (tmp_path / str(len(texts))).read_bytes()


def test_one_file_alone_is_not_written_anew(tmp_path: Path) -> None:
    """Its checksums are in the receipt."""
    part, joined = tmp_path / "part", tmp_path / "joined"
    row = {"id": str(SITE), "site_id": str(SITE), "work_items": []}
    pq.write_table(pa.Table.from_pylist([row], columnar.RECORD), part, compression="snappy")
    data = part.read_bytes()
    join([part], joined, "parquet")
    assert (joined.read_bytes(), part.exists()) == (data, False)


def test_a_json_null_is_null_in_parquet(oddities: Path, tmp_path: Path) -> None:
    """In files of earlier versions it is a text, and they are recognised by their records all the same."""
    path = tmp_path / "packed"
    packed(oddities, path, "parquet")
    rows = pq.read_table(path).to_pylist()
    assert "'null'" not in str(rows)
    earlier = with_null_as_text(rows)
    assert str(earlier).count("'null'") > 4
    pq.write_table(pa.Table.from_pylist(earlier, columnar.RECORD), path)
    assert text_of(path, "parquet") == GOLDEN.read_bytes()


def with_null_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "null" if key in JSONB and entry is None else with_null_as_text(entry) for key, entry in value.items()
        }
    return [with_null_as_text(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize("encoding", PACKED)
def test_a_damaged_file_is_none_of_ours(oddities: Path, tmp_path: Path, encoding: Encoding) -> None:
    path = tmp_path / "packed"
    whole = packed(oddities, path, encoding).digests.records_sha256
    data = path.read_bytes()
    middle = len(data) // 3
    for damaged in (
        data[:-9],
        data[:middle],
        b"",
        b"{}\n",
        data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
    ):
        path.write_bytes(damaged)
        assert look_into(path, encoding)[1].records_sha256 != whole


def test_parquet_of_other_columns_is_none_of_ours(tmp_path: Path) -> None:
    for table in (pa.table({"id": ["a"]}), pa.Table.from_pylist([{"work_items": None}], columnar.RECORD)):
        pq.write_table(table, tmp_path / "other")
        assert look_into(tmp_path / "other", "parquet")[1].records_sha256 is None


@pytest.mark.parametrize("row", [{"id": None}, {"site_id": None}, {"work_items": [{"id": None, "input": []}]}])
def test_parquet_with_a_null_id_is_none_of_ours(tmp_path: Path, row: dict[str, Any]) -> None:
    """Else such a record would be no line, and a file of them one without records."""
    whole = {"id": str(SITE), "site_id": str(SITE), "work_items": []}
    pq.write_table(pa.Table.from_pylist([whole | row], columnar.RECORD), tmp_path / "other")
    count, digests = look_into(tmp_path / "other", "parquet")
    assert (count, digests.records_sha256) == (0, None)


def wide_orders(path: Path) -> None:
    """As transform writes them: 300 orders of half a megabyte."""
    file = columnar.ParquetFile(path)
    row = {"id": str(SITE), "site_id": str(SITE), "metadata": json.dumps("x" * 500_000), "work_items": []}
    for _ in range(30):
        file.write(pa.RecordBatch.from_pylist([row] * 10, columnar.RECORD), 5_000_000)
    file.close()


def repeated_text(path: Path) -> None:
    """A few kilobytes: one text of two megabytes that 256 records share."""
    row = {"id": str(SITE), "site_id": str(SITE), "work_items": []}
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 256, pa.int32()), pa.array(["x" * (2 << 20)]))
    table = pa.Table.from_pylist([row] * 256, columnar.RECORD).set_column(5, "metadata", text)
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=1 << 30, store_schema=False)
    assert path.stat().st_size < 20_000


GROWTH = """
import resource, sys
from pathlib import Path
from data_export.transform.encoding import look_into
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
count, digests = look_into(Path(sys.argv[1]), "parquet")
print(count, bool(digests.records_sha256), peak() - before)
"""


def looked_into(path: Path) -> list[int]:
    words = [sys.executable, "-c", GROWTH, str(path)]
    count, ours, grown = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return [int(count), ours == "True", int(grown)]


def test_reading_back_holds_little_of_any_file(tmp_path: Path) -> None:
    """The rows of one batch are bounded by their bytes, as each text is spelled out."""
    for write, records in ((wide_orders, 300), (repeated_text, 256)):
        write(tmp_path / "file")
        count, ours, grown = looked_into(tmp_path / "file")
        assert (count, ours) == (records, True)
        assert grown < 150, write


def test_records_and_row_groups_larger_than_any_of_ours_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that a record has many times counts as often."""
    found = [{"id": str(SITE), "metadata": "x" * 100_000, "data_conformity": [], "job_conformity": []}] * 200
    row = {"id": str(SITE), "site_id": str(SITE), "work_items": [{"id": str(SITE), "input": found}]}
    pq.write_table(pa.Table.from_pylist([row], columnar.RECORD), tmp_path / "file")
    for most, words in ((19_000_000, "a record is longer"), (99_999, "a row group"), (200 * 38 - 1, "a row group")):
        monkeypatch.setattr(columnar, "_LARGEST_ROW_GROUP", most)
        with pytest.raises(ValueError, match=words):
            b"".join(map(bytes, decoded(tmp_path / "file", "parquet")))
    assert look_into(tmp_path / "file", "parquet")[1].records_sha256 is None


MEMORY = """
import os, sys
from pathlib import Path
from data_export.transform.transform import transform
snapshot, out = Path(sys.argv[1]), Path(sys.argv[2])
for encoding in sys.argv[3:]:
    if child := os.fork():  # each has a peak of its own, and one import will do for all
        assert os.waitpid(child, 0)[1] == 0
        continue
    paths = (out / "d", out / "i", out / "q")
    transform(snapshot, *paths, export_type="work-orders-timeline", on_invalid="fail", encoding=encoding)
    peak = next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(peak, flush=True)
    os._exit(0)
"""


def test_memory_does_not_grow_with_the_file(source: SourceDatabase, tmp_path: Path) -> None:
    """Three times the records, much the same memory: a row group of Parquet is bounded by its bytes."""
    peaks: dict[tuple[Encoding, int], int] = {}
    for times in (1, 3):
        many_orders(source, 12_000 * times)
        snapshot = source.export(tmp_path / str(times)).folder / "snapshot"
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(snapshot), str(tmp_path), *PACKED],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks |= {(encoding, times): int(peak) for encoding, peak in zip(PACKED, done.stdout.split(), strict=True)}
    for encoding in PACKED:
        assert peaks[encoding, 3] < peaks[encoding, 1] + 60, peaks


def many_orders(source: SourceDatabase, count: int) -> None:
    source.clear()
    source.connection.execute(
        "INSERT INTO work_order (id, name, site_id, create_date, update_date, metadata) "
        "SELECT gen_random_uuid(), md5(n::text), '433a60f6-9756-473e-b1e9-9e89e24bb787', '2025-03-16 01:00+00', "
        "'2025-03-16 01:00+00', jsonb_build_object('a', repeat(md5(n::text), 30)) FROM generate_series(1, %s) n",
        (count,),
    )
