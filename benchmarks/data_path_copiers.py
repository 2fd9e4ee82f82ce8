"""Tools that copy tables, as their users set them up: less work than the service's, no nesting and no order.

They are no requirements of this project: `benchmarks.data_path --peers` installs them into a folder of its own, and
runs this file there. Each writes the rows of the five tables to JSON Lines, one file or folder per table.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

_DLT = ["dlt[sql-database,filesystem]==1.31.0", "psycopg[binary]==3.3.*"]
#: Name in the table -> name of the function below, and what is installed for it.
COPIERS = {
    "sling, five flat tables": ("sling", ["sling-linux-amd64==1.4.11"]),  # later wheels download their binary
    "dlt, five flat tables": ("dlt", _DLT),
    "dlt by connectorx, JSON as text": ("dlt_connectorx", [*_DLT, "connectorx==0.4.6", "pyarrow==26.*"]),
}
_QUIET = {
    "SLING_DISABLE_TELEMETRY": "TRUE",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",  # plain text, as all others write
    "NORMALIZE__WORKERS": "2",  # a process for each core
    "SLING_THREADS": "2",
}


def install(folder: Path) -> list[str]:
    """Makes a virtual environment in `folder` where there is none; returns the names of the copiers that it has."""
    from benchmarks.measure import installed  # late: the copiers' own environment lacks what it imports

    found = [way for way, (_, packages) in COPIERS.items() if installed(folder, *packages)]
    for way in COPIERS.keys() - found:
        print(f"{way}: not in the table, since {' '.join(COPIERS[way][1])} cannot be installed", file=sys.stderr)
    return found


def queries(sites: list[UUID]) -> dict[str, str]:
    """What is copied of these sites: table and query."""
    from benchmarks.data_path_peers import FROM, ROWS, WHERE

    where = " OR ".join(f"({WHERE.format(site=site)})" for site in sites)
    for column in ("site_id", "create_date", "update_date"):
        where = where.replace(column, f"o.{column}")
    return {
        table: f"SELECT {columns.format(text='')} FROM work_order o{FROM[table]} WHERE {where}"
        for table, columns in ROWS.items()
    }


def command(folder: Path, way: str, dsn: str, sites: list[UUID], out: Path) -> list[str]:
    """What copies the rows of these sites, and prints what it cost as `benchmarks.one_way` does."""
    return [str(folder / "bin" / "python"), __file__, COPIERS[way][0], dsn, json.dumps(queries(sites)), str(out)]


def rows(folder: Path) -> int:
    """How many rows a copier has written."""
    files = [path for path in folder.rglob("*.jsonl") if "_dlt_" not in str(path.relative_to(folder))]
    return sum(path.read_bytes().count(b"\n") for path in files)


def sling(dsn: str, queries: dict[str, str], out: Path) -> Callable[[], None]:
    (binary,) = Path(sys.prefix).glob("lib/python3*/site-packages/sling_linux_*/bin/sling-*")
    environment = os.environ | {"SOURCE": f"{dsn}?sslmode=disable"}
    streams = {table: {"sql": query, "object": f"file://{out}/{table}.jsonl"} for table, query in queries.items()}
    replication = out / "replication.json"  # JSON is YAML too
    said = {"source": "SOURCE", "target": "LOCAL", "defaults": {"mode": "full-refresh"}, "streams": streams}
    replication.write_text(json.dumps(said))

    def copy() -> None:
        subprocess.run([binary, "run", "-r", str(replication)], env=environment, check=True, capture_output=True)

    return copy


def dlt(dsn: str, queries: dict[str, str], out: Path, **options: Any) -> Callable[[], None]:
    import sqlalchemy
    from dlt import pipeline
    from dlt.destinations import filesystem
    from dlt.sources.sql_database import sql_database

    target = filesystem(out.as_uri())
    flow = pipeline("flat", pipelines_dir=str(out / "_dlt_work"), destination=target, dataset_name="rows")

    def query(_: Any, table: Any) -> Any:
        return sqlalchemy.text(queries[table.name])

    source = sql_database(dsn, table_names=list(queries), query_adapter_callback=query, **options)
    return lambda: flow.run(source, loader_file_format="jsonl", write_disposition="replace")


def dlt_connectorx(dsn: str, queries: dict[str, str], out: Path) -> Callable[[], None]:
    """Its quickest back-end: by Arrow, whose tables have no place for JSON of mixed types. Its own pyarrow fails."""
    import connectorx  # noqa: F401 - here, as all imports, it does not count

    return dlt(dsn, queries, out, backend="connectorx")


def main(name: str, dsn: str, queries: str, out: str) -> None:
    os.environ.update(_QUIET)
    Path(out).mkdir(parents=True, exist_ok=True)
    copy = {"sling": sling, "dlt": dlt, "dlt_connectorx": dlt_connectorx}[name](dsn, json.loads(queries), Path(out))
    before, began = _usage(), time.monotonic()
    copy()
    wall, after = time.monotonic() - began, _usage()
    print(json.dumps({"wall": wall, "client": after[0] - before[0], "peak": after[1], "note": None}))


def _usage() -> tuple[float, float]:
    """CPU seconds and the peak in MB, of this process or the largest that it started."""
    ours, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime
    return spent, max(ours.ru_maxrss, theirs.ru_maxrss) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
