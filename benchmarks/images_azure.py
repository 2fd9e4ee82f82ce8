"""Seconds to deliver many images to Azure Blob Storage, beside rclone.

    PYTHONPATH=plugins python -m benchmarks.images_azure [--images 2000] [--bytes 102400] [--rounds 3]

Both send the same local files to a container of their own on one server, then again, when nothing has changed; in each
round one after the other, and the table has the medians. The server is Azurite, which is slower than either:
CPU seconds of the whole process, its start and imports included, say more than seconds by the clock. What arrived is
counted and compared in size.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median
from uuid import UUID

from azure.storage.blob import ContainerClient, generate_container_sas

from benchmarks.images import SITE, Spent, run
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer


def ours(server: AbfsServer, folder: Path, container: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.images_azure", "--ours", str(folder), server.url, container]


def rclone(server: AbfsServer, folder: Path, container: str) -> list[str]:
    """With a SAS token, since it signs wrongly with a key where the account is in the path."""
    token = generate_container_sas(
        ACCOUNT, container, KEY, permission="racwdl", expiry=datetime.now(UTC) + timedelta(hours=2)
    )
    return [
        *("rclone", "copy", f"{folder}/images/{SITE}/inputs", f":azureblob:{container}/exports/{SITE}/inputs"),
        *("--config=", f"--azureblob-sas-url={server.url}/{ACCOUNT}/{container}?{token}"),
        *("--transfers=32", "--checkers=32"),
    ]


CONTENDERS = {"this service": ours, "rclone": rclone}


async def copy(folder: str, url: str, container: str) -> None:
    """What the `copy_images` task does."""
    from azure.storage.blob import BlobServiceClient

    from data_export.delivery.abfs.account import access_of
    from data_export.delivery.abfs.store import AbfsStore
    from data_export.delivery.local.store import LocalStore
    from data_export.images import copy_images, source_key_of

    uri = f"abfs://{container}@{ACCOUNT}/exports/"
    hooked = BlobServiceClient(f"{url}/{ACCOUNT}", KEY)
    target = AbfsStore(uri, connect=lambda: access_of(hooked, uri, "export_abfs", {}))
    async with LocalStore(Path(folder) / "images") as source, target as destination:
        copied = await copy_images(
            Path(folder) / "images.parquet",
            site_id=SITE,
            source=source,
            source_key=source_key_of("{site_id}/inputs/{input_id}{file_extension}", SITE),
            destination=destination,
        )
    print(copied)


def prepare(folder: Path, count: int, size: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    inputs, random = folder / "images" / str(SITE) / "inputs", Random(1)
    inputs.mkdir(parents=True)
    ids = [str(UUID(int=random.getrandbits(128), version=4)) for _ in range(count)]
    for input_id in ids:
        (inputs / f"{input_id}.png").write_bytes(random.randbytes(size))
    pq.write_table(pa.table({"input_id": ids, "file_extension": [".png"] * count}), folder / "images.parquet")


def race(server: AbfsServer, folder: Path, options: argparse.Namespace) -> None:
    times: dict[str, list[tuple[Spent, Spent]]] = {name: [] for name in CONTENDERS}
    for turn in range(options.rounds):
        for number, (name, command_of) in enumerate(CONTENDERS.items()):
            command = command_of(server, folder, container := f"images-{turn}-{number}")
            if shutil.which(command[0]) is None:
                continue
            server.create_bucket(container)
            times[name].append((run(command), run(command)))
            with ContainerClient(f"{server.url}/{ACCOUNT}", container, KEY) as client:
                sizes = [blob.size for blob in client.list_blobs()]
                client.delete_container()
            if sizes != [options.bytes] * options.images:
                sys.exit(f"{name}: {len(sizes)} of {options.images} images arrived whole")
    print(f"{'':16}{'first s':>9}{'CPU s':>7}{'MB':>6}{'again s':>9}{'CPU s':>7}")
    for name, measured in times.items():
        if not measured:
            print(f"{name:16}  not installed")
            continue
        first, again = (Spent(*map(median, zip(*side, strict=True))) for side in zip(*measured, strict=True))
        print(f"{name:16}{first.wall:9.2f}{first.cpu:7.2f}{first.memory:6.0f}{again.wall:9.2f}{again.cpu:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--bytes", type=int, default=100 << 10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, AbfsServer(Path(name) / "server") as server:
        print(f"{options.images:,} images of {options.bytes:,} bytes, Azurite, medians of {options.rounds}")
        prepare(Path(name), options.images, options.bytes)
        race(server, Path(name), options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        asyncio.run(copy(*sys.argv[2:]))
    else:
        main()
