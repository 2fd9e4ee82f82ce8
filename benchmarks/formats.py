"""What each format of a data file costs: MB, CPU seconds and memory, and the same where DuckDB or pandas writes it.

    export PYTHONPATH=plugins
    python -m benchmarks.formats             # 2 sites, 20,000 work orders, 126 MB of JSON Lines; about a minute
    python -m benchmarks.formats --sites 20  # 1.3 GB

Starts a PostgreSQL of its own, extracts once, and lets each way write one file per site in a process of its own: the
service from the snapshot, the others from the service's JSON Lines. Read the ratios: other work on the machine counts.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

from benchmarks.data_path import ROOT, prepare, run_way
from benchmarks.data_path_service import TIMELINE, WINDOW
from data_export.layout import Encoding
from data_export.source.extract import extract
from data_export.transform.transform import transform
from demo.servers.postgres import PostgresServer

WAYS = {
    "json": "plain",
    "json, gzip": "gzip",
    "json, zstd": "zstd",
    "parquet": "parquet",
    "DuckDB, JSON Lines with gzip": "duckdb_json",
    "DuckDB, Parquet with zstd": "duckdb_parquet",
    "pandas, JSON Lines with gzip": "pandas_json",
    "pandas, Parquet with zstd, `work_items` as text": "pandas_parquet",
}


def _service(encoding: Encoding, _: str, sites: list[UUID], folder: Path) -> None:
    for site in sites:
        snapshot = folder.parent / "snapshots" / str(site)
        images, quarantine = folder / "images", folder / "quarantine"
        transform(
            snapshot, folder / f"{site}.data", images, quarantine, export_type=TIMELINE, on_invalid="fail",
            encoding=encoding,
        )  # fmt: skip
        images.unlink()


plain, gzip, zstd, parquet = (partial(_service, each) for each in ("json", "gzip", "zstd", "parquet"))


def _lines(sites: list[UUID], folder: Path) -> Iterator[tuple[Path, Path]]:
    for site in sites:
        yield folder.parent / "plain" / f"{site}.data", folder / f"{site}.data"


def _duckdb(options: str, _: str, sites: list[UUID], folder: Path) -> None:
    import duckdb

    script = (ROOT / "include" / "loaders" / "duckdb" / "load.sql").read_text()
    (columns,) = re.findall(r"columns = (\{.*?\n    \})", script, re.DOTALL)
    for source, target in _lines(sites, folder):
        read = f"read_json('{source}', format = 'newline_delimited', columns = {columns})"
        duckdb.execute(f"COPY (FROM {read}) TO '{target}' ({options})")


duckdb_json = partial(_duckdb, "FORMAT json, COMPRESSION gzip")
duckdb_parquet = partial(_duckdb, "FORMAT parquet, COMPRESSION zstd")


def pandas_json(_: str, sites: list[UUID], folder: Path) -> None:
    import pandas

    for source, target in _lines(sites, folder):
        frame = pandas.read_json(source, lines=True, dtype=False, convert_dates=False)
        frame.to_json(target, orient="records", lines=True, compression="gzip")


def pandas_parquet(_: str, sites: list[UUID], folder: Path) -> None:
    import pandas

    for source, target in _lines(sites, folder):
        frame = pandas.read_json(source, lines=True, dtype=False, convert_dates=False)
        for name in ("metadata", "work_items"):  # Arrow refuses values of mixed types
            frame[name] = frame[name].map(json.dumps)
        frame.to_parquet(target, compression="zstd")


def compare(folder: Path, count: int) -> None:
    with PostgresServer(folder / "postgres", durable=False) as server:
        dsn, sites = prepare(server, count)
        for site in sites:
            snapshot = folder / "snapshots" / str(site)
            snapshot.mkdir(parents=True, exist_ok=True)
            extract(dsn, site, WINDOW, TIMELINE, snapshot)
    print(f"| {count} sites | MB | of json | CPU seconds | MB of memory |\n|---|---|---|---|---|")
    first = 0.0
    for way, function in WAYS.items():
        written = folder / function
        written.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.formats", "--way", function, "--folder", str(written)]
        done = subprocess.run([*command, *map(str, sites)], check=True, capture_output=True, text=True)
        cost = json.loads(done.stdout.splitlines()[-1])
        size = sum(path.stat().st_size for path in written.glob("*.data")) / 1e6
        first = first or size
        print(f"| {way} | {size:.1f} | {size / first:.3f} | {cost['client']:.1f} | {cost['peak']:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=2, help="of 10,000 work orders each (default: 2)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("ids", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(run_way(f"formats.{args.way}", "", [UUID(each) for each in args.ids], args.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        compare(Path(temporary), args.sites)


if __name__ == "__main__":
    main()
