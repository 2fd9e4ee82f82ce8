"""Seconds to deliver many images to Cloud Storage, S3 and Azure Blob Storage, beside rclone.

    PYTHONPATH=plugins python -m benchmarks.images_cloud [--images 2000] [--bytes 102400] [--rounds 3]
                                                        [--only gs s3 abfs] [--by-server] [--rtt-ms 0]

Both send the same local files to a folder of their own on one server, then again, when nothing has changed; in each
round one after the other, and the table has the medians. With `--by-server` the images are in another bucket of that
server, which copies them by itself; `--rtt-ms` puts a network of that round trip before it. rclone runs as it comes,
with 4 at once, and with 32 at once, where it compares by checksums, as we do. S3 is SeaweedFS where that is installed;
the servers are emulators, some slower than either: CPU seconds say more than seconds by the clock. We are a task of a
worker, which has imported its libraries before it forks. What arrived is counted and compared in size.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.images import SITE, far_away, write_images
from benchmarks.measure import Spent, as_task, in_turn, print_table, rclone_program, run
from data_export.content import Content
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer

KINDS = ("gs", "s3", "abfs")
IMAGES = "images"
MANY = ("--transfers=32", "--checkers=32")


def server_of(kind: str, folder: Path) -> Any:
    from demo.servers.gcs import GcsServer  # late: what they import is no part of what we measure
    from demo.servers.s3 import S3Server, SeaweedServer

    s3 = SeaweedServer if SeaweedServer.installed() else S3Server
    return {"gs": GcsServer, "s3": s3, "abfs": AbfsServer}[kind](folder)


def servers(kinds: Sequence[str], folder: Path) -> Iterator[tuple[str, Any]]:
    """Each kind and its server, one after the other, those that are installed."""
    for kind in kinds:
        if kind == "abfs" and not AbfsServer.installed():
            print("abfs: Azurite is not installed")
            continue
        with server_of(kind, folder / kind) as server:
            yield kind, server


def create_bucket(kind: str, server: Any, bucket: str) -> None:
    """One that is in use: SeaweedFS takes a second, or five, to make room for the first object of a new one."""
    server.create_bucket(bucket)

    async def write() -> None:
        async with store_of(kind, server.url, f"{bucket}/") as store:
            await store.replace("in-use", Content.of_bytes(b"in use"))

    asyncio.run(write())


def rclone(kind: str, url: str, bucket: str, folder: Path | None, ways: Sequence[str] = MANY) -> list[str]:
    """From a local folder, or from the bucket of images."""
    place = {
        "gs": f":gcs,endpoint='{url}/storage/v1/',anonymous=true,bucket_policy_only=true:",
        "s3": f":s3,provider=Other,endpoint='{url}',access_key_id=demo,secret_access_key=demo,no_check_bucket=true:",
        "abfs": f":azureblob,sas_url='{url}/{ACCOUNT}?{_sas()}':",
    }[kind]
    source = f"{folder}/{IMAGES}/{SITE}/inputs" if folder else f"{place}{IMAGES}/{SITE}/inputs"
    return [rclone_program(), "copy", source, f"{place}{bucket}/exports/{SITE}/inputs", "--config=", *ways]


def _sas() -> str:
    """rclone signs wrongly with a key where the account is in the path."""
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    ends = datetime.now(UTC) + timedelta(hours=2)
    rights = AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True)
    return generate_account_sas(ACCOUNT, KEY, ResourceTypes(container=True, object=True), rights, ends)


def store_of(kind: str, url: str, address: str) -> Any:
    if kind == "gs":
        from gcloud.aio.storage import Storage
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        from data_export.delivery.gcs.store import GcsStore

        async def aio_client(session: Any) -> Any:
            return Storage(session=session, api_root=url)

        def client() -> Any:
            return Client("demo", AnonymousCredentials(), client_options={"api_endpoint": url})

        return GcsStore(f"gs://{address}", client=client, aio_client=aio_client, credentials=AnonymousCredentials)
    if kind == "s3":
        import boto3
        from botocore.config import Config

        from data_export.delivery.s3.store import S3Store

        session = boto3.Session("demo", "demo", region_name="us-east-1")
        config = Config(s3={"addressing_style": "path"})
        return S3Store(
            f"s3://{address}",
            client=lambda: session.client("s3", endpoint_url=url, config=config),
            session=lambda: session,
        )
    from azure.storage.blob import BlobServiceClient

    from data_export.delivery.abfs.account import access_of
    from data_export.delivery.abfs.store import AbfsStore

    bucket, _, folder = address.partition("/")
    uri, hooked = f"abfs://{bucket}@{ACCOUNT}/{folder}", BlobServiceClient(f"{url}/{ACCOUNT}", KEY)
    return AbfsStore(uri, connect=lambda: access_of(hooked, uri, "export_abfs", {}))


async def copy_listed(folder: str, source: Any, destination: Any, **options: Any) -> None:
    """What the `copy_images` task does, of the images that `write_images` has listed."""
    from data_export.images import copy_images, source_key_of

    await copy_images(
        Path(folder) / "images.parquet",
        site_id=SITE,
        source=source,
        source_key=source_key_of("{site_id}/inputs/{input_id}{file_extension}", SITE),
        destination=destination,
        **options,
    )


async def copy(kind: str, url: str, bucket: str, folder: str, source: str) -> None:
    from data_export.delivery.local.store import LocalStore

    local = LocalStore(Path(folder) / IMAGES)
    async with (
        local if source == "local" else store_of(kind, url, f"{IMAGES}/") as images,
        store_of(kind, url, f"{bucket}/exports/") as destination,
    ):
        await copy_listed(folder, images, destination)


async def sizes(kind: str, url: str, bucket: str) -> list[int]:
    async with store_of(kind, url, f"{bucket}/exports/") as store:
        return [stored.digests.size async for stored in store.list("")]


def race(kind: str, server: Any, url: str, folder: Path, options: argparse.Namespace) -> None:
    def ours(bucket: str) -> list[str]:
        source = "store" if options.by_server else "local"
        return as_task("benchmarks.images_cloud", "--ours", kind, url, bucket, str(folder), source)

    def theirs(*ways: str) -> Callable[[str], list[str]]:
        return lambda bucket: rclone(kind, url, bucket, None if options.by_server else folder, ways)

    contenders: dict[str, Callable[[str], list[str]]] = {
        "this service": ours,
        "rclone as it comes": theirs(),
        # Local files of the same size and time are read too, as by us; a copy's time is not asked of each object.
        "rclone, 32 at once": theirs(*MANY, "--checksum"),
    }
    times: dict[str, list[tuple[Spent, Spent]]] = {name: [] for name in contenders}
    for turn, number, name in in_turn(contenders, options.rounds):
        command = contenders[name](bucket := f"target-{turn}-{number}")
        if shutil.which(command[0]) is None:
            continue
        create_bucket(kind, server, bucket)
        spent = []
        for _ in ("first", "again"):
            spent.append(run(command))
            arrived = asyncio.run(sizes(kind, server.url, bucket))
            if arrived != [options.bytes] * options.images:
                sys.exit(f"{kind}, {name}: {len(arrived)} of {options.images} images arrived whole")
        times[name].append((spent[0], spent[1]))
    how = ", copied by the server" if options.by_server else ""
    print(
        f"{kind}: {options.images:,} images of {options.bytes:,} bytes{how}, {type(server).__name__}, "
        f"{options.rtt_ms:g} ms round trip, medians of {options.rounds}"
    )
    print_table(times, options.images * options.bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--bytes", type=int, default=100 << 10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rtt-ms", type=float, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--by-server", action="store_true")
    options = parser.parse_args()
    os.environ.pop("AWS_CA_BUNDLE", None)  # with it rclone's S3 does not start
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, options.images, options.bytes)
        for kind, server in servers(options.only, folder):
            server.create_bucket(IMAGES)
            if options.by_server:
                target = rclone(kind, server.url, IMAGES, folder)
                target[3] = target[3].replace(f"{IMAGES}/exports/", f"{IMAGES}/")
                run(target)
            with far_away(server.port, options.rtt_ms / 1000) as port:
                url = f"http://127.0.0.1:{port}" if options.rtt_ms else server.url
                race(kind, server, url, folder, options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        asyncio.run(copy(*sys.argv[2:]))
    else:
        main()
