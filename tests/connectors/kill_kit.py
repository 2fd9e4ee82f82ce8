"""What a killed delivery runs: images, then the data file, to a real server, in a process of its own."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import UUID

from data_export.content import Content
from data_export.delivery.base import Destination
from data_export.delivery.deliver import deliver
from data_export.delivery.local.store import LocalStore
from data_export.delivery.sftp.destination import SftpDestination, SftpLogin
from data_export.images import copy_images, source_key_of
from tests.connectors.contract import DATA_KEY, SITE

SOURCE_KEY = source_key_of("{site_id}/{input_id}{file_extension}", SITE)
#: What the fork server has imported for its processes: a kill then hits the work, not the imports, and costs less.
PRELOADED = [
    *(f"tests.connectors.{name}" for name in ("kill_kit", "gcs.stores", "s3.stores", "abfs.stores", "sftp.logins")),
    *(
        "pyarrow.parquet",
        "google_crc32c",
        "obstore.store",
        "obstore.auth.boto3",
        "azure.storage.blob.aio",
    ),  # which the core imports late
]
KILLS = int(os.environ.get("DATA_EXPORT_TEST_KILLS", "20"))


def open_place(kind: str, place: dict[str, Any]) -> Destination:
    """The destination that the description names; made anew in each process."""
    if kind == "gs":
        from tests.connectors.gcs.stores import gcs_store

        return gcs_store(place["url"], place["uri"])
    if kind == "s3":
        from tests.connectors.s3.stores import s3_store

        return s3_store(place["url"], place["uri"])
    if kind == "abfs":
        from tests.connectors.abfs.stores import usual_store

        return usual_store(place["url"], place["container"])
    if kind == "sftp":
        return SftpDestination(SftpLogin(**place["login"]), place["path"], connections=4)
    return LocalStore(Path(place["path"]))


def deliver_all(kind: str, place: dict[str, Any], folder: str) -> None:
    """One try of a task: every image of the list, then the data file."""

    async def run() -> None:
        source, listed, data = (Path(folder) / name for name in ("images", "images.parquet", "data.json"))
        async with LocalStore(source) as images, open_place(kind, place) as target:
            await copy_images(listed, site_id=SITE, source=images, source_key=SOURCE_KEY, destination=target)
            await deliver(target, lambda _revision: DATA_KEY, Content.of_file(data), "replace")

    asyncio.run(run())


async def watch(
    kind: str, place: dict[str, Any], data: bytes, images: list[UUID], over: Callable[[], bool], emptying: Lock
) -> int:
    """A reader that looks all the time; how often it saw the data file, which must be whole and after its images."""
    seen = 0
    async with open_place(kind, place) as reader:
        while not over():
            await asyncio.sleep(0.05)
            with emptying:  # the test itself takes files away between two deliveries
                seen += await _look(reader, data, images)
    return seen


async def _look(reader: Destination, data: bytes, images: list[UUID]) -> bool:
    if await reader.stat(DATA_KEY) is None:
        return False
    found = b"".join([chunk async for chunk in reader.read(DATA_KEY)])
    assert found == data, f"a reader saw {len(found)} of {len(data)} bytes"
    for image in images:
        assert await reader.stat(f"{SITE}/inputs/{image}.png"), "the data file was there before its image"
    return True


def wait_or_kill(process: Any, deadline: float) -> bool:
    """Kills the process at that moment (`time.monotonic`); whether it had ended by itself, and then well."""
    process.join(max(deadline - time.monotonic(), 0))
    if process.exitcode is None:
        process.kill()
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL), "a try failed though nobody killed it"
    return bool(process.exitcode == 0)
