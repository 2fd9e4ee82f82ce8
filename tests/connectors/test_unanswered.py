"""Why no answer came, in the words of a person who looks for the cause: the same at every cloud."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest

from data_export.delivery.base import Store
from data_export.delivery.retry import Patience
from data_export.errors import DataExportError
from demo.servers.abfs import ACCOUNT, KEY
from demo.servers.loop_thread import stop_accepting
from tests.connectors.abfs.stores import store_at
from tests.connectors.gcs.stores import gcs_store
from tests.connectors.s3.stores import s3_store

ONCE = replace(Patience(), tries=1, connect=1, answer=0.3)
WHOSE = {"account_name": ACCOUNT, "account_key": KEY}
STORES: dict[str, Callable[[str], AbstractAsyncContextManager[Store]]] = {
    "abfs": lambda url: store_at(url, "container", credential=WHOSE),
    "gs": lambda url: gcs_store(url, "gs://bucket/", patience=ONCE),
    "s3": lambda url: s3_store(url, "s3://bucket/", patience=ONCE),
}


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[int]:
    """Reads what it is sent, and says these bytes and ends the connection, or nothing at all."""

    over, serving = asyncio.Event(), set[asyncio.Task[None] | None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            await reader.read(1000)
            if answer is None:
                await over.wait()
            else:
                writer.write(answer)
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            await stop_accepting(listening)
            over.set()
            await asyncio.gather(*filter(None, serving))


async def said(kind: str, url: str) -> str:
    with pytest.raises(DataExportError) as raised:
        async with STORES[kind](url) as store:
            await store.stat("a")
    return str(raised.value)


@pytest.mark.parametrize("kind", STORES)
async def test_each_silence_has_its_words(kind: str) -> None:
    assert "no proper answer from" in (refused := await said(kind, "http://127.0.0.1:1"))
    assert "nothing listens at that address (" in refused
    assert "no server has th" in await said(kind, "http://no-such-name.invalid")
    async with server(None) as port:
        silent = await said(kind, f"http://127.0.0.1:{port}")
        assert "the server is silent (" in silent or "no answer within 2 s" in silent
    async with server(b"") as port:
        assert "the server broke off the connection (" in await said(kind, f"http://127.0.0.1:{port}")
    async with server(b"SSH-2.0-x\r\n") as port:
        assert "TLS fails (" in await said(kind, f"https://127.0.0.1:{port}")
