"""pandas, converting the service's JSON Lines; see `benchmarks.formats`."""

import json
from pathlib import Path
from uuid import UUID

import pandas
import pyarrow.parquet  # noqa: F401 - pandas loads it late; here it must not count as its time

_GZIP = {"method": "gzip", "compresslevel": 6}  # as all others pack it


def _frame(site: UUID, folder: Path) -> pandas.DataFrame:
    source = folder.with_name("formats_service.plain") / f"{site}.data"
    return pandas.read_json(source, lines=True, dtype=False, convert_dates=False)


def json_lines(_: str, sites: list[UUID], folder: Path) -> None:
    for site in sites:
        _frame(site, folder).to_json(folder / f"{site}.data", orient="records", lines=True, compression=_GZIP)


def parquet(_: str, sites: list[UUID], folder: Path) -> None:
    for site in sites:
        frame = _frame(site, folder)
        for name in ("metadata", "work_items"):  # Arrow refuses values of mixed types
            frame[name] = frame[name].map(json.dumps)
        frame.to_parquet(folder / f"{site}.data", compression="zstd")
