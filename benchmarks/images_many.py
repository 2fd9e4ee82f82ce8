"""Whether the rate and the memory of a delivery of very many images stay what they were at its beginning.

    PYTHONPATH=plugins python -m benchmarks.images_many [--images 50000] [--bytes 2048] [--only gs s3 abfs] [--parts 5]

Small images, so that their number counts and not their bytes, from local files to the servers of
`benchmarks.images_cloud`, to one of its own for each contender. Each part of ours has its own rate, which is also the
server's; the last column is the whole process, with its start. What arrived is counted and compared in size.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.images import write_images
from benchmarks.images_cloud import IMAGES, KINDS, copy_listed, create_bucket, rclone, servers, sizes, store_of
from benchmarks.measure import run

PARTS = "parts"


async def copy(kind: str, url: str, folder: str, parts: int) -> None:
    """Writes images a second and MB of memory of each part to a file beside the images."""
    from data_export.delivery.local.store import LocalStore
    from data_export.images.bounds import CopyLimits, Progress

    seen = [(0, 0.0, 0.0)]
    process = psutil.Process()

    def progress(now: Progress) -> None:
        if now.done * parts >= now.total * len(seen):
            seen.append((now.done, now.seconds, process.memory_info().rss / 1e6))

    async with LocalStore(Path(folder) / IMAGES) as images, store_of(kind, url, "many/exports/") as destination:
        limits = CopyLimits(report_seconds=0.2)
        await copy_listed(folder, images, destination, limits=limits, progress=progress)
    rates = (
        f"{(then - done) / (later - at):8,.0f} {memory:5.0f}" for (done, at, _), (then, later, memory) in pairwise(seen)
    )
    (Path(folder) / PARTS).write_text("".join(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--bytes", type=int, default=2 << 10)
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    os.environ.pop("AWS_CA_BUNDLE", None)  # with it rclone's S3 does not start
    parts = f"images/s and MB of memory in each of {options.parts} parts of ours, and of the whole process"
    print(f"{options.images:,} images of {options.bytes:,} bytes: {parts}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, options.images, options.bytes)
        for contender in ("this service", "rclone"):
            for kind, server in servers(options.only, folder / contender):
                create_bucket(kind, server, "many")
                where = ["--ours", kind, server.url, name, str(options.parts)]
                ours = [sys.executable, "-m", "benchmarks.images_many", *where]
                command = ours if contender == "this service" else rclone(kind, server.url, "many", folder)
                spent = run(command)
                if (arrived := asyncio.run(sizes(kind, server.url, "many"))) != [options.bytes] * options.images:
                    sys.exit(f"{kind}, {contender}: {len(arrived):,} of {options.images:,} images arrived whole")
                parts = (folder / PARTS).read_text() if command == ours else " " * 14 * options.parts
                print(
                    f"{kind:5} {contender:12}{parts}{options.images / spent.wall:8,.0f} {spent.memory:5.0f}", flush=True
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        asyncio.run(copy(*sys.argv[2:5], int(sys.argv[5])))
    else:
        main()
