"""What each format of a data file costs: MB, CPU seconds and memory, and the same where DuckDB or pandas writes it.

    export PYTHONPATH=plugins
    python -m benchmarks.formats             # 2 sites, 20,000 work orders, 126 MB of JSON Lines; about a minute
    python -m benchmarks.formats --sites 20  # 1.3 GB

Starts a PostgreSQL of its own, extracts once, and lets each way write one file per site in a process of its own: the
service from the snapshot, the others from the service's JSON Lines. Read the ratios: other work on the machine counts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet

from benchmarks.data_path import PER_SITE, prepare
from benchmarks.data_path_service import TIMELINE, WINDOW
from data_export.source.extract import extract
from demo.servers.postgres import PostgresServer

WAYS = {
    "json": "formats_service.plain",
    "json, gzip": "formats_service.gzip",
    "json, zstd": "formats_service.zstd",
    "parquet": "formats_service.parquet",
    "DuckDB, JSON Lines with gzip": "formats_duckdb.json_lines",
    "DuckDB, Parquet with zstd": "formats_duckdb.parquet",
    "pandas, JSON Lines with gzip": "formats_pandas.json_lines",
    "pandas, Parquet with zstd, `work_items` as text": "formats_pandas.parquet",
}


_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}


def records(path: Path) -> int:
    """How many records a file holds, whatever packs it."""
    with path.open("rb") as file:
        first = file.read(2)
    if first == b"PA":
        return int(pyarrow.parquet.read_metadata(path).num_rows)
    with pyarrow.input_stream(str(path), compression=_PACKED.get(first)) as lines:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: lines.read(1 << 20), b""))


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
        (written := folder / function).mkdir()
        command = [sys.executable, "-m", "benchmarks.one_way", function, "", str(written), *map(str, sites)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        cost, files = json.loads(done.stdout.splitlines()[-1]), list(written.glob("*.data"))
        if [records(path) for path in files] != [PER_SITE] * count:
            sys.exit(f"{way}: {sum(map(records, files)):,} of {count * PER_SITE:,} records")
        size = sum(path.stat().st_size for path in files) / 1e6
        first = first or size
        print(f"| {way} | {size:.1f} | {size / first:.3f} | {cost['client']:.1f} | {cost['peak']:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=2, help="of 10,000 work orders each (default: 2)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        compare(Path(temporary), args.sites)


if __name__ == "__main__":
    main()
