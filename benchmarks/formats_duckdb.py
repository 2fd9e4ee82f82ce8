"""DuckDB, converting the service's JSON Lines; see `benchmarks.formats`."""

import re
from functools import partial
from pathlib import Path
from uuid import UUID

import duckdb

from benchmarks.measure import ROOT


def _write(options: str, _: str, sites: list[UUID], folder: Path) -> None:
    script = (ROOT / "include" / "loaders" / "duckdb" / "load.sql").read_text()
    (columns,) = re.findall(r"columns = (\{.*?\n    \})", script, re.DOTALL)
    for site in sites:
        source = folder.with_name("formats_service.plain") / f"{site}.data"
        read = f"read_json('{source}', format = 'newline_delimited', columns = {columns})"
        duckdb.execute(f"COPY (FROM {read}) TO '{folder / f'{site}.data'}' ({options})")


json_lines = partial(_write, "FORMAT json, COMPRESSION gzip")
parquet = partial(_write, "FORMAT parquet, COMPRESSION zstd")
