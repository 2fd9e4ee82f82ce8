"""Stores on the emulator of S3, as its tests open them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config

from data_export.content import Content
from data_export.delivery.retry import Patience
from data_export.delivery.s3.store import S3Store
from tests.connectors.contract import read_all

QUICK = Patience(tries=3, first_pause=0.01, longest_pause=0.02, connect=5, answer=20)
HASTY = dataclasses.replace(QUICK, tries=2, answer=0.7)

#: A store at an address, with the settings of its connection.
Open = Callable[..., S3Store]


@functools.cache
def key_session() -> Any:
    return boto3.Session("key", "secret", region_name="eu-west-3")


def client_of(url: str, session: Any, patience: Patience = QUICK) -> Any:
    config = Config(
        s3={"addressing_style": "path"},
        connect_timeout=patience.connect,
        read_timeout=patience.answer,
        retries={"max_attempts": 0},
    )
    return session.client("s3", endpoint_url=url, config=config)


def s3_store(url: str, uri: str, session: Any = None, patience: Patience = QUICK) -> S3Store:
    session = session or key_session()
    return S3Store(uri, client=lambda: client_of(url, session, patience), session=lambda: session, patience=patience)


def unfinished(raw: Any, bucket: str) -> list[Any]:
    return raw.list_multipart_uploads(Bucket=bucket).get("Uploads", [])


async def all_of(store: S3Store) -> None:
    """A request of each kind: by boto3, and by ourselves."""
    async with store:
        await store.replace("image", Content.of_bytes(b"pixels"))
        await store.delete("copy")
        await store.copy_from(store, "image", "copy", await store.look_to_copy(store, "image"))
        assert await read_all(store, "copy") == b"pixels"
        assert {found.key async for found in store.list("")} == {"image", "copy"}
