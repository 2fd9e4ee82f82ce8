"""Speed and memory of extract and transform beside other ways to make the same files, in one run.

    export PYTHONPATH=plugins
    python -m benchmarks.data_path              # 20 sites, 200,000 work orders, 1.3 GB of JSON Lines; some 10 minutes
    python -m benchmarks.data_path --scale 0.1  # 2 sites of the same size
    python -m benchmarks.data_path --scale 0.4 --peers --only "COPY of JSON built" sling dlt  # installs both for itself
    python -m benchmarks.data_path --one-site 1000 10000 100000 1000000  # memory and rate as a site grows
    DEMO_POSTGRES_BIN=/usr/lib/postgresql/15/bin python -m benchmarks.data_path  # on another PostgreSQL

Starts a PostgreSQL of its own in a temporary folder (`--folder` keeps it for the next run), fills it, and lets each way
write one file per site from it, each in processes of its own. Every file is compared: the same bytes, or where a way
spells JSON its own way, the same values. Wall time depends on what else the machine does, so read the ratios; CPU
seconds of the server count more than ours, since the source is a production database.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg

from benchmarks import data_path_copiers as copiers
from demo.servers.postgres import PostgresServer

ROOT = Path(__file__).parents[1]
PER_SITE = 10_000
SERVICE = "extract + transform, two sites at a time"  # as a worker with two cores runs a DAG's mapped tasks
ALONE = "extract + transform, one after the other"
PEER = "COPY of JSON built by PostgreSQL"
#: Name in the table -> function `(dsn, sites, folder)` of a module beside this one, which writes <folder>/<site>.jsonl,
#: and how many processes share it.
WAYS: dict[str, tuple[str, int]] = {
    SERVICE: ("data_path_service.one_site_after_the_other", 2),
    ALONE: ("data_path_service.one_site_after_the_other", 1),
    PEER: ("data_path_peers.copy_json", 1),
    "the same COPY over two connections": ("data_path_peers.copy_json", 2),
    "COPY of JSON text by string functions": ("data_path_peers.copy_text", 1),
    "psycopg rows + orjson": ("data_path_peers.psycopg_orjson", 1),
    "psycopg rows + pydantic": ("data_path_peers.pydantic_models", 1),
}
ROUNDS = 4  # the ways take turns, so that whatever else the machine does meets all of them
SETTINGS = {"shared_buffers": "2GB", "max_wal_size": "8GB"}
SAMPLE = 97  # every so manieth line is compared by value where bytes differ


@dataclass
class Cost:
    """Seconds of wall and CPU time, and MB of the largest process; those of rounds add up."""

    wall: float = 0.0
    client: float = 0.0
    server: float = 0.0
    peak: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Cost") -> None:
        self.wall += other.wall
        self.client += other.client
        self.server += other.server
        self.peak = max(self.peak, other.peak)
        self.notes += other.notes


def server_cpu(server: PostgresServer) -> float:
    """CPU seconds of all processes that are or were the server's."""
    postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
    spent = 0.0
    for process in [postmaster, *postmaster.children()]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system
    ended = postmaster.cpu_times()
    return spent + ended.children_user + ended.children_system


def command(way: str, dsn: str, sites: list[UUID], folder: Path) -> list[str]:
    """What does the way's work on those sites in a process of its own."""
    if way in copiers.COPIERS:
        return copiers.command(folder.parent / "peers", way, dsn, sites, folder / str(sites[0]))
    return [sys.executable, "-m", "benchmarks.one_way", WAYS[way][0], dsn, str(folder), *map(str, sites)]


def measure(server: PostgresServer, way: str, dsn: str, sites: list[UUID], folder: Path) -> Cost:
    """One way on some of the sites."""
    _, processes = WAYS.get(way, ("", 1))
    folder.mkdir(exist_ok=True)

    def worker(share: list[UUID]) -> dict[str, Any]:
        done = subprocess.run(command(way, dsn, share, folder), check=True, capture_output=True, text=True)
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    before = server_cpu(server)
    with ThreadPoolExecutor(processes) as pool:
        results = list(pool.map(worker, [sites[k::processes] for k in range(processes)]))
    return Cost(
        wall=max(result["wall"] for result in results),
        client=sum(result["client"] for result in results),
        server=server_cpu(server) - before,
        peak=max(result["peak"] for result in results),
        notes=[result["note"] for result in results if result["note"]],
    )


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


def row_count(dsn: str, sites: list[UUID]) -> int:
    """How many rows a copier has to write."""
    with psycopg.connect(dsn) as connection:
        counts = [f"(SELECT count(*) FROM ({query}) AS rows)" for query in copiers.queries(sites).values()]
        (found,) = connection.execute("SELECT " + " + ".join(counts)).fetchone() or (0,)
    return int(found)


def agreement(ours: Path, theirs: Path, rows: int) -> str:
    """`same bytes` or `same values`, of a copier the rows that it wrote; anything else ends the benchmark."""
    if theirs.name in copiers.COPIERS:
        if (found := copiers.rows(theirs)) != rows:
            raise SystemExit(f"{theirs.name}: {found:,} of {rows:,} rows")
        return f"all {rows:,} rows"
    if digests(ours) == digests(theirs):
        return "same bytes"
    for path in sorted(ours.glob("*.jsonl")):
        with path.open("rb") as mine, (theirs / path.name).open("rb") as other:
            for number, (left, right) in enumerate(zip(mine, other, strict=True)):
                if number % SAMPLE == 0 and comparable(json.loads(left)) != comparable(json.loads(right)):
                    raise SystemExit(f"{theirs / path.name}, line {number + 1}: another record than ours")
    return "same values"


def prepare(server: PostgresServer, count: int, per_site: int = PER_SITE) -> tuple[str, list[UUID]]:
    name = f"bench_{count}" if per_site == PER_SITE else f"bench_{count}_of_{per_site}"
    dsn = server.create_database(name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('filled')").fetchone() == (None,):
            connection.execute((ROOT / "demo" / "schema.sql").read_text())
            script = (ROOT / "benchmarks" / "data_path.sql").read_text()
            for statement in script.replace("{sites}", str(count)).replace("{per_site}", str(per_site)).split(";\n"):
                connection.execute(statement)
            connection.execute("CREATE TABLE filled ()")
        rows = connection.execute("SELECT DISTINCT site_id FROM work_order ORDER BY 1").fetchall()
    return dsn, [row[0] for row in rows]


def compare(folder: Path, scale: float, only: list[str], peers: bool) -> None:
    count = max(round(20 * scale), 1)
    known = [*WAYS, *(copiers.install(folder / "peers") if peers else [])]
    ways = [way for way in known if way == SERVICE or not only or any(word in way for word in only)]
    for way in ways:
        shutil.rmtree(folder / way, ignore_errors=True)
    with PostgresServer(folder / "postgres", durable=False, settings=SETTINGS) as server:
        dsn, sites = prepare(server, count)
        rows = row_count(dsn, sites) if peers else 0
        costs = {way: Cost() for way in ways}
        most = max(processes for _, processes in WAYS.values())
        rounds = max(min(ROUNDS, count // most), 1)  # in each, every process of a way has a site at least
        for k, share in enumerate(sites[k::rounds] for k in range(rounds)):
            for way in ways[k:] + ways[:k]:  # each is once the first, which finds the server's cache cold
                costs[way].add(measure(server, way, dsn, share, folder / way))
    print(f"{count} sites, {count * PER_SITE:,} work orders, one window")
    print(f"{'':72} {'of COPY:':>15}")
    print(f"{'way':40} {'wall s':>7} {'client s':>9} {'source s':>9} {'peak MB':>8} {'wall':>6} {'source':>7}  result")
    for way, cost in costs.items():
        peer = costs.get(PEER, Cost(float("nan"), server=float("nan")))
        ratios = f"{cost.wall / peer.wall:6.2f} {cost.server / peer.server:7.2f}"
        numbers = f"{cost.wall:7.1f} {cost.client:9.1f} {cost.server:9.1f} {cost.peak:8.0f}"
        print(f"{way:40} {numbers} {ratios}  {agreement(folder / SERVICE, folder / way, rows)}")
    print(f"{written(folder / SERVICE):,.0f} MB of JSON Lines")


def written(folder: Path) -> float:
    """MB of JSON Lines."""
    return sum(path.stat().st_size for path in folder.glob("*.jsonl")) / 1e6


def one_site(folder: Path, sizes: list[int]) -> None:
    """The service alone on one site of each size."""
    print(f"{'work orders':>12} {'MB':>7} {'wall s':>7} {'client s':>9} {'source s':>9} {'orders/s':>9} {'peak MB':>8}")
    with PostgresServer(folder / "postgres", durable=False, settings=SETTINGS) as server:
        for size in sizes:
            dsn, sites = prepare(server, 1, size)
            out = folder / f"one site of {size}"
            cost = measure(server, ALONE, dsn, sites, out)
            numbers = (
                f"{cost.wall:7.1f} {cost.client:9.1f} {cost.server:9.1f} {size / cost.wall:9,.0f} {cost.peak:8.0f}"
            )
            print(f"{size:12,} {written(out):7,.0f} {numbers}", flush=True)
            shutil.rmtree(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="part of 20 sites (default: all)")
    parser.add_argument("--folder", type=Path, help="keep database and files here for the next run")
    parser.add_argument("--only", nargs="*", default=[], help="words of the ways to run beside the service")
    parser.add_argument("--peers", action="store_true", help="also install and run tools that copy tables")
    parser.add_argument("--one-site", type=int, nargs="+", metavar="ORDERS", help="sizes of one site, instead")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if args.one_site:
            one_site(folder, args.one_site)
        else:
            compare(folder, args.scale, args.only, args.peers)


if __name__ == "__main__":
    main()
