"""Speed and memory of extract and transform beside other ways to make the same files, in one run.

    python benchmarks/data_path.py             # 20 sites, 200,000 work orders, 1.3 GB of JSON Lines; some 10 minutes
    python benchmarks/data_path.py --scale 0.1 # 2 sites of the same size

Starts a PostgreSQL of its own in a temporary folder (`--folder` keeps it for the next run), fills it, and lets each way
write one file per site from it, each in a process of its own. Every file is compared: the same bytes, or where a way
spells JSON its own way, the same values. Wall time depends on what else the machine does, so read the ratios; CPU
seconds of the server count more than ours, since the source is a production database.
"""

import argparse
import hashlib
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psutil
import psycopg

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins"), str(ROOT / "benchmarks")]

from demo.servers.postgres import PostgresServer  # noqa: E402 - the paths above come first

PER_SITE = 10_000
SERVICE = "extract + transform"
PEER = "COPY of JSON text built by PostgreSQL"
#: Name in the table -> function `(dsn, sites, folder)` writing <folder>/<site>.jsonl, and how many processes share it.
WAYS: dict[str, tuple[str, int]] = {
    SERVICE: ("data_path.service", 1),
    "extract + transform, two workers": ("data_path.service", 2),
    PEER: ("data_path_peers.copy_text", 1),
    "COPY of json_build_object": ("data_path_peers.copy_json", 1),
    "psycopg rows + orjson": ("data_path_peers.psycopg_orjson", 1),
    "psycopg rows + pydantic": ("data_path_peers.pydantic_models", 1),
}
SAMPLE = 97  # every so manieth line is compared by value where bytes differ


def service(dsn: str, sites: list[UUID], folder: Path) -> None:
    """As tasks do it: one site after the other, a snapshot on disk between the two steps."""
    from data_export.source.extract import extract
    from data_export.transform.transform import transform
    from data_export.window import ExportWindow

    window = ExportWindow(datetime(2025, 3, 17, tzinfo=UTC), datetime(2025, 3, 18, tzinfo=UTC))
    for site in sites:
        export_type = "work-orders-timeline"
        with tempfile.TemporaryDirectory(dir=folder) as name:
            snapshot = Path(name)
            began = time.monotonic()
            extract(dsn, site, window, export_type, snapshot)
            between = time.monotonic()
            transform(
                snapshot,
                folder / f"{site}.jsonl",
                snapshot / "images.parquet",
                snapshot / "quarantine.json",
                export_type=export_type,
                on_invalid="fail",
            )
            print(f"extract {between - began:.3f} transform {time.monotonic() - between:.3f}")


def run_way(function: str, dsn: str, sites: list[UUID], folder: Path) -> dict[str, float]:
    """In the process of one way: does it, and says what it cost."""
    module, name = function.split(".")
    way: Callable[[str, list[UUID], Path], None] = getattr(importlib.import_module(module), name)
    way(dsn, sites, folder)
    times = psutil.Process().cpu_times()
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024  # of this process alone, which ru_maxrss is not
    return {"cpu": times.user + times.system, "peak": peak}


def server_cpu() -> float:
    """CPU seconds of all PostgreSQL processes that are or were children of ours."""
    spent = 0.0
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres":
                times = process.cpu_times()
                spent += times.user + times.system + times.children_user + times.children_system
        except psutil.NoSuchProcess:
            continue
    return spent


def measure(function: str, processes: int, dsn: str, sites: list[UUID], folder: Path) -> dict[str, float]:
    """Wall and CPU seconds and the largest process, from start of the processes to the last file."""
    folder.mkdir(exist_ok=True)

    def worker(share: list[UUID]) -> dict[str, float]:
        command = [sys.executable, __file__, "--way", function, "--dsn", dsn, "--out", str(folder), *map(str, share)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return result

    before, began = server_cpu(), time.monotonic()
    with ThreadPoolExecutor(processes) as pool:
        results = list(pool.map(worker, [sites[k::processes] for k in range(processes)]))
    return {
        "wall": time.monotonic() - began,
        "client": sum(result["cpu"] for result in results),
        "server": server_cpu() - before,
        "peak": max(result["peak"] for result in results),
    }


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def comparable(value: object) -> object:
    """The value with every timestamp as an instant, since its spelling is each way's own."""
    if isinstance(value, dict):
        return {
            key: datetime.fromisoformat(inner) if key.endswith("_date") and inner else comparable(inner)
            for key, inner in value.items()
        }
    return [comparable(inner) for inner in value] if isinstance(value, list) else value


def agreement(ours: Path, theirs: Path) -> str:
    """`same bytes` or `same values`; anything else ends the benchmark."""
    if digests(ours) == digests(theirs):
        return "same bytes"
    for path in sorted(ours.glob("*.jsonl")):
        with path.open("rb") as mine, (theirs / path.name).open("rb") as other:
            for number, (left, right) in enumerate(zip(mine, other, strict=True)):
                if number % SAMPLE == 0 and comparable(json.loads(left)) != comparable(json.loads(right)):
                    raise SystemExit(f"{theirs / path.name}, line {number + 1}: another record than ours")
    return "same values"


def prepare(server: PostgresServer, count: int) -> tuple[str, list[UUID]]:
    name = f"bench_{count}"
    dsn = server.create_database(name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('filled')").fetchone() == (None,):
            connection.execute((ROOT / "demo" / "schema.sql").read_text())
            script = (ROOT / "benchmarks" / "data_path.sql").read_text()
            for statement in script.replace("{sites}", str(count)).replace("{per_site}", str(PER_SITE)).split(";\n"):
                connection.execute(statement)
            connection.execute("CREATE TABLE filled ()")
        rows = connection.execute("SELECT DISTINCT site_id FROM work_order ORDER BY 1").fetchall()
    return dsn, [row[0] for row in rows]


def compare(folder: Path, scale: float, only: list[str]) -> None:
    count = max(round(20 * scale), 1)
    settings = {"shared_buffers": "512MB", "max_wal_size": "8GB"}
    with PostgresServer(folder / "postgres", durable=False, settings=settings) as server:
        dsn, sites = prepare(server, count)
        print(f"{count} sites, {count * PER_SITE:,} work orders, one window")
        print(f"{'way':40} {'wall s':>8} {'client s':>8} {'server s':>8} {'peak MB':>8} {'of COPY':>8}  result")
        results = {}
        for way, (function, processes) in WAYS.items():
            if only and way != SERVICE and not any(word in way for word in only):
                continue
            results[way] = measure(function, processes, dsn, sites, folder / way)
        base = results.get(PEER, {}).get("wall", float("nan"))
        for way, cost in results.items():
            ratio = f"{cost['wall'] / base:.2f}"
            agreed = agreement(folder / SERVICE, folder / way)
            numbers = f"{cost['wall']:8.1f} {cost['client']:8.1f} {cost['server']:8.1f} {cost['peak']:8.0f} {ratio:>8}"
            print(f"{way:40} {numbers}  {agreed}")
        size = sum(path.stat().st_size for path in (folder / SERVICE).glob("*.jsonl"))
        print(f"{size / 1e6:,.0f} MB of JSON Lines")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="part of 20 sites (default: all)")
    parser.add_argument("--folder", type=Path, help="keep database and files here for the next run")
    parser.add_argument("--only", nargs="*", default=[], help="words of the ways to run beside the service")
    for hidden in ("--way", "--dsn", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("sites", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(run_way(args.way, args.dsn, [UUID(site) for site in args.sites], Path(args.out))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        compare(folder, args.scale, args.only)


if __name__ == "__main__":
    main()
