"""Why no answer came, in the words of a person who looks for the cause: the same at every cloud."""

import asyncio
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from data_export.delivery.base import Store
from data_export.delivery.retry import Patience
from data_export.delivery.s3.errors import explain
from data_export.errors import DataExportError
from demo.servers.abfs import ACCOUNT, KEY
from demo.servers.loop_thread import stop_accepting
from tests.connectors.abfs.stores import store_at
from tests.connectors.gcs.stores import gcs_store
from tests.connectors.s3.stores import s3_store

ONCE = replace(Patience(), tries=1, connect=20, answer=20)  # a busy machine is not a silent server
SHORT = replace(ONCE, answer=0.3)
WHOSE = {"account_name": ACCOUNT, "account_key": KEY}
# Buckets have names that say nothing of the fault, and are part of what libraries say of it.
STORES: dict[str, Callable[[str, Patience], AbstractAsyncContextManager[Store]]] = {
    "abfs": lambda url, patience: store_at(url, "refused", credential=WHOSE, patience=patience),
    "gs": lambda url, patience: gcs_store(url, "gs://refused/", patience=patience),
    "s3": lambda url, patience: s3_store(url, "s3://refused/", patience=patience),
}


@asynccontextmanager
async def server(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
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

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with listening:
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            await stop_accepting(listening)
            over.set()
            await asyncio.gather(*filter(None, serving))


async def said(kind: str, url: str, patience: Patience = ONCE) -> str:
    with pytest.raises(DataExportError) as raised:
        async with STORES[kind](url, patience) as store:
            await store.stat("a")
    return str(raised.value)


@pytest.mark.parametrize("kind", STORES)
async def test_each_silence_has_its_words(kind: str) -> None:
    assert "no proper answer from" in (refused := await said(kind, "http://127.0.0.1:1"))
    assert "nothing listens at that address (" in refused
    assert "no server has th" in await said(kind, "http://no-such-name.invalid")
    async with server(None) as port:
        silent = await said(kind, f"http://127.0.0.1:{port}", SHORT)
        assert "the server is silent (" in silent or "no answer within 0.3 s" in silent
    async with server(b"") as port:
        assert "the server broke off the connection (" in await said(kind, f"http://127.0.0.1:{port}")
    async with server(b"SSH-2.0-x\r\n") as port:
        assert "TLS fails (" in await said(kind, f"https://127.0.0.1:{port}")


@pytest.mark.parametrize("name", ["refused", "timeout"])
@pytest.mark.parametrize("kind", STORES)
async def test_the_name_of_a_machine_says_nothing_of_the_fault(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a network, or of a container, it is a single word."""
    resolve = socket.getaddrinfo

    def hosts(host: Any, *args: Any, **kwargs: Any) -> Any:
        return resolve("127.0.0.1" if host in (name, name.encode()) else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hosts)
    async with server(b"") as port:
        assert "the server broke off the connection (" in await said(kind, f"http://{name}:{port}")
    async with server(b"SSH-2.0-x\r\n") as port:
        assert "TLS fails (" in await said(kind, f"https://{name}:{port}")
    if name == "timeout":
        assert "nothing listens at that address (" in await said(kind, f"http://{name}:1")


async def said_of_data(url: str, patience: Patience = ONCE) -> str:
    """Of S3's data, which obstore moves: `S3Store` asks boto3 first, which meets the same servers."""
    import obstore
    from obstore.store import S3Store

    never = {"max_retries": 0, "retry_timeout": timedelta(0)}
    connect, answer = timedelta(seconds=patience.connect), timedelta(seconds=patience.answer)
    options = {"allow_http": True, "connect_timeout": connect, "read_timeout": answer}
    store = S3Store(
        "refused",
        endpoint=url,
        access_key_id="key",
        secret_access_key="secret",
        client_options=options,  # type: ignore[arg-type]
        retry_config=never,  # type: ignore[arg-type]
    )
    with pytest.raises(obstore.exceptions.BaseError) as raised:
        await obstore.head_async(store, "a")
    return str(explain(raised.value, "refused", "s3://refused/a", "s3:GetObject"))


async def test_each_silence_has_its_words_for_data_of_s3_too() -> None:
    assert "nothing listens at that address (" in await said_of_data("http://127.0.0.1:1")
    assert "no server has that name (" in await said_of_data("http://no-such-name.invalid")
    async with server(None) as port:
        assert "the server is silent (" in await said_of_data(f"http://127.0.0.1:{port}", SHORT)
    async with server(b"") as port:
        assert "the server broke off the connection (" in await said_of_data(f"http://127.0.0.1:{port}")
    async with server(b"SSH-2.0-x\r\n") as port:
        assert "TLS fails (" in await said_of_data(f"https://127.0.0.1:{port}")


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_that_signs_itself_is_not_trusted(
    trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As openssl makes it without further words: as an authority, which no server may show as its own."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"]
    named = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*command, *named], check=True, capture_output=True)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with server(b"", tls) as port:
        address = f"https://127.0.0.1:{port}"
        told = [await said_of_data(address)] + ([] if trusted else [await said(kind, address) for kind in STORES])
    for words in told:
        assert "certificate is not trusted" in words
        assert re.search("verify|REQUESTS_CA_BUNDLE", words), "the fix"
