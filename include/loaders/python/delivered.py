"""Delivered files for Python: find them, read them, and keep the newest state of each work order.

Needs Python 3.11; `.json.zst` and `.parquet` also need pyarrow. As a command it copies a folder for systems that
cannot have `:` in file names (Windows, Spark): `python delivered.py FROM TO`.
"""

import gzip
import hashlib
import io
import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Any spelling of the colons: what Windows, Spark, browsers and copying tools make of them; gcloud on Windows writes $1.
_COLON = r"(?:\$1|%3[Aa]|\D)"
_TIME = rf"\d\d{_COLON}\d\d{_COLON}\d\d"
_COLONS = (":", "-", "_", ".", "$1", "%3A", "\uff1a", "\uf03a")
_NAME = re.compile(
    rf"(?<!receipts[/\\])(?<!manifests[/\\])(work-orders-[a-z]+)[/\\_](\d{{4}}-\d\d-\d\d)_({_TIME})_(\d{{4}}-\d\d-\d\d)_({_TIME})(?:\.r(\d+))?"
    r"\.(json|json\.gz|json\.zst|parquet)$"
)
# Objects of that name inside metadata are never found: the whole of the outer one is skipped.
_METADATA = re.compile(r'"metadata":\s*(?={)')
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}]')
_JSON_COLUMNS = {"metadata", "analyzed_value", "corrected_value"}


@dataclass(frozen=True)
class DataFile:
    """A data file and what its name says: the window is `[window_start, window_end)`, in UTC."""

    path: Path
    export_type: str
    window_start: datetime
    window_end: datetime
    revision: int
    kind: str

    @property
    def order(self) -> tuple[datetime, datetime, int]:
        """Later windows are larger, then later revisions, as numbers: `.r10` is after `.r2`."""
        return self.window_end, self.window_start, self.revision


class Number(str):
    """A number as it is spelled in the file: `0.0`, `1e400`, twenty digits."""

    __slots__ = ()


def data_file(path: Path) -> DataFile | None:
    """None if the name is not a data file's: an image, a receipt."""
    found = _NAME.search(path.as_posix())
    if found is None:
        return None
    export_type, day, time, last_day, last_time, revision, kind = found.groups()
    start, end = _moment(day, time), _moment(last_day, last_time)
    return DataFile(path, export_type, start, end, int(revision or 1), kind)


def data_files(root: Path) -> list[DataFile]:
    """All data files below a folder, in the order of their windows and revisions.

    Of a window that is there in several formats, since the format was changed, the file that was written last.

    Raises:
        FileNotFoundError: there is no such folder, which is not the same as one without files.
    """
    _check(root)
    found = [file for path in root.rglob("*") if path.is_file() and (file := data_file(path))]
    found.sort(key=lambda file: (file.path.stat().st_mtime_ns, file.path))
    last = {str(file.path).removesuffix(file.kind): file for file in found}
    return sorted(last.values(), key=lambda file: (*file.order, file.path))


def new_files(root: Path, loaded: Mapping[str, str]) -> list[tuple[DataFile, tuple[str, str]]]:
    """The files of all manifests below `root/manifests` that are not loaded yet, each with its item for `loaded`.

    `loaded` is the content that was loaded last, by key: a file may become again what it was before. Of several
    manifests of a window the highest revision counts. A file that changed since its manifest was written is left for
    the next one, and so is one that is not copied yet.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    _check(root)
    newest: dict[str, tuple[int, Path]] = {}
    for path in (root / "manifests").rglob("*.json"):
        # Each name that is found here matches.
        stem, number = re.fullmatch(r"(.*?)(?:\.r(\d+))?\.json", path.as_posix()).groups()  # type: ignore[union-attr]
        newest[stem] = max(newest.get(stem, (0, path)), (int(number or 1), path))
    found = []
    for _, path in newest.values():
        for site in json.loads(path.read_text(encoding="utf-8"))["sites"]:
            key, content = site["file"]["key"], site["file"]["records_sha256"] or site["file"]["sha256"]
            file = data_file(_copied(root, key)) if loaded.get(key) != content else None
            if file and file.path.is_file() and _sha256(file.path) == site["file"]["sha256"]:
                found.append((file, (key, content)))
    return sorted(found, key=lambda one: (*one[0].order, one[0].path))


def _check(root: Path) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")


def _copied(root: Path, key: str) -> Path:
    """Where a file is, also in a copy without colons."""
    spelled = (root / key.replace(":", colon) for colon in _COLONS)
    return next((path for path in spelled if path.is_file()), root / key)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lines(file: DataFile) -> Iterator[str]:
    """The records of a file as JSON texts, one at a time; none if the file is empty."""
    if file.kind == "parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(file.path).iter_batches(batch_size=256):
            yield from map(_as_json, batch.to_pylist())
        return
    with _open(file) as text:
        for line in text:
            yield line.removesuffix("\n")


def parse(line: str) -> dict[str, Any]:
    """A record. Metadata stays JSON text, so that no nesting is too deep; numbers keep their spelling as `Number`."""
    parts, done = [], 0
    while found := _METADATA.search(line, done):
        end = _end_of_object(line, found.end())
        parts += [line[done : found.end()], json.dumps(line[found.end() : end])]
        done = end
    record: dict[str, Any] = json.loads("".join(parts) + line[done:], parse_int=Number, parse_float=Number)
    return record


def newest(files: Iterable[DataFile]) -> list[tuple[DataFile, dict[str, Any]]]:
    """The newest state of each work order of each export type, and the file it is from.

    `update_date` decides, since a late or repeated file can be newer than its window; then the order of windows and
    revisions. A work order that later files lack stays: it is not deleted, it has only not changed.
    """
    states: dict[tuple[str, str], tuple[Any, DataFile, dict[str, Any]]] = {}
    for file in files:
        for line in lines(file):
            record = parse(line)
            key = file.export_type, record["id"]
            # Timestamps of one fixed spelling compare as text; a missing one is oldest.
            # Of two sites' states as new, the one of the greater site_id, as the SQL loaders have it.
            order = record["update_date"] or record["create_date"] or "", *file.order, record["site_id"]
            if key not in states or order >= states[key][0]:
                states[key] = order, file, record
    return [(file, record) for _, file, record in states.values()]


def copy_without_colons(source: Path, target: Path) -> int:
    """Copies the data files and manifests below a folder with `-` in place of each `:`; says how many data files.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the copies would be in that folder: the next time, copies of them would be made.
    """
    files = data_files(source)
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} is in {source}: name a folder outside it")
    for path in (*(file.path for file in files), *(source / "manifests").rglob("*.json")):
        copy = target / path.relative_to(source).as_posix().replace(":", "-")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    return len(files)


def _open(file: DataFile) -> io.TextIOWrapper:
    if file.kind == "json.gz":
        return gzip.open(file.path, "rt", encoding="utf-8", newline="\n")
    if file.kind == "json.zst":
        import pyarrow

        return io.TextIOWrapper(pyarrow.input_stream(str(file.path), compression="zstd"), "utf-8", newline="\n")
    # Texts may contain other line separators, on which only `\n` does not split.
    return file.path.open(encoding="utf-8", newline="\n")


def _moment(day: str, time: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{re.sub(_COLON, ':', time)}").replace(tzinfo=UTC)


def _end_of_object(text: str, start: int) -> int:
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    raise ValueError(f"the object at character {start} does not end: was the file cut while it was copied?")


def _as_json(value: Any, column: str = "") -> str:
    """A row of Parquet as a line of JSON Lines."""
    if value is not None and column in _JSON_COLUMNS:
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f'"{key}":{_as_json(entry, key)}' for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_as_json, value)) + "]"
    if isinstance(value, datetime):
        return f'"{value.isoformat(timespec="microseconds")}"'
    return json.dumps(value, ensure_ascii=False, default=str)  # uuids


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python delivered.py FROM TO")
    try:
        print(f"{copy_without_colons(Path(sys.argv[1]), Path(sys.argv[2]))} data files copied")
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
