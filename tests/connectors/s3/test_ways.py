"""Every request goes the way on which boto3 would send it, whichever library does."""

import asyncio
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.httpsession import get_cert_path

from data_export.content import Content
from data_export.delivery.deliver import deliver
from data_export.delivery.retry import Patience
from data_export.delivery.s3.connect import trusted_by
from data_export.delivery.s3.dialect import Grants, same_server
from data_export.delivery.s3.store import S3Store
from data_export.errors import ObjectExists, TargetRefused, TargetUnavailable
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.loop_thread import stop_accepting
from demo.servers.s3 import S3Server
from tests.connectors.contract import read_all
from tests.connectors.s3.stores import QUICK, key_session, s3_store

Open = Callable[..., S3Store]


@pytest.fixture
def opened(bucket: str) -> Open:
    def store(url: str, session: Any = None, patience: Patience = QUICK, **settings: Any) -> S3Store:
        session = session or key_session()
        config = Config(**({"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 0}} | settings))
        uri = f"s3://{bucket}/exports/"
        made = session.client("s3", endpoint_url=url, config=config)
        return S3Store(uri, client=lambda: made, session=lambda: session, patience=patience)

    return store


async def all_of(store: S3Store) -> None:
    async with store:
        await store.replace("image", Content.of_bytes(b"pixels"))
        await store.delete("copy")
        await store.copy_from(store, "image", "copy", await store.look_to_copy(store, "image"))
        assert await read_all(store, "copy") == b"pixels"
        assert {found.key async for found in store.list("")} == {"image", "copy"}


KINDS = {"HEAD", "PUT", "DELETE", "GET"}


async def test_by_the_proxy_of_the_connection(opened: Open, proxy: FaultProxy, server: S3Server) -> None:
    await all_of(opened(server.url, proxies={"http": proxy.url}))
    assert {request.method for request in proxy.seen} == KINDS
    assert any("x-amz-copy-source" in request.headers for request in proxy.seen)


async def test_by_the_proxy_of_the_environment(
    opened: Open, proxy: FaultProxy, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    await all_of(opened(server.url))
    assert {request.method for request in proxy.seen} == KINDS
    assert any("x-amz-copy-source" in request.headers for request in proxy.seen)


@pytest.mark.parametrize(("settings", "spared"), [({"proxies": {}}, ""), ({}, "127.0.0.1")])
async def test_by_no_proxy_where_connection_or_environment_says_so(
    opened: Open, server: S3Server, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], spared: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", spared)
    await all_of(opened(server.url, **settings))


async def test_the_users_netrc_is_nobodys_business(
    opened: Open, server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    await all_of(opened(server.url))


async def test_to_an_address_that_ends_in_a_slash(opened: Open, proxy: FaultProxy) -> None:
    await all_of(opened(f"{proxy.url}/"))
    assert any("x-amz-copy-source" in request.headers for request in proxy.seen)


async def test_under_the_name_that_the_connection_gives(opened: Open, proxy: FaultProxy) -> None:
    await all_of(opened(proxy.url, user_agent_extra="Airflow/3 of-the-customer"))
    assert [one for one in proxy.seen if not one.headers["User-Agent"].endswith("of-the-customer")] == []


async def test_with_the_headers_and_cookies_of_a_talkative_gateway(opened: Open, server: S3Server) -> None:
    async def talk(request: Exchange, forward: Forward) -> Answer:
        assert "Cookie" not in request.headers
        answer = await forward(request)
        answer.headers.update({"Content-Security-Policy": "a" * 30_000, "Set-Cookie": "node=1; Path=/"})
        return answer

    with FaultProxy(server.url, talk) as proxy:
        await all_of(opened(proxy.url.replace("127.0.0.1", "localhost")))
        assert len(proxy.requests("HEAD", "/copy")) == 2, "no answer is taken for a broken connection"


@pytest.mark.parametrize("slow", [re.compile("HEAD .*image"), re.compile("PUT .*copy"), re.compile("GET .*copy")])
async def test_an_answer_may_take_as_long_as_the_connection_says(
    opened: Open, server: S3Server, slow: re.Pattern[str]
) -> None:
    async def wait(request: Exchange, forward: Forward) -> Answer:
        if slow.match(f"{request.method} {request.path}"):
            await asyncio.sleep(2)
        return await forward(request)

    with FaultProxy(server.url, wait) as proxy:
        await all_of(opened(proxy.url, patience=Patience(tries=1, answer=1), read_timeout=30))


@pytest.mark.parametrize(("method", "path"), [("HEAD", "image"), ("PUT", "copy"), ("GET", "copy")])
async def test_and_no_longer(opened: Open, proxy: FaultProxy, method: str, path: str) -> None:
    proxy.stall(method=method, path=path)
    with pytest.raises(TargetUnavailable, match="no proper answer from S3"):
        await asyncio.wait_for(all_of(opened(proxy.url, patience=Patience(tries=1), read_timeout=1)), 20)


async def test_by_credentials_of_this_moment(opened: Open, proxy: FaultProxy) -> None:
    """Even where what lends them lends them for a minute."""
    lent: list[str] = []

    def lend() -> dict[str, str]:
        lent.append(f"key{len(lent)}")
        until = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
        return {"access_key": lent[-1], "secret_key": "s", "token": f"token-of-{lent[-1]}", "expiry_time": until}

    session = boto3.Session(region_name="eu-west-3")
    session._session._credentials = RefreshableCredentials.create_from_metadata(lend(), lend, "test")
    async with opened(proxy.url, session) as store:
        await store.replace("image", Content.of_bytes(b"pixels"))
        for number in range(3):
            assert [found.key async for found in store.list("image")] == ["image"], "boto3 has them renewed"
            await store.copy_from(store, "image", f"copy {number}", await store.look_to_copy(store, "image"))
            copy = proxy.requests("PUT", "copy")[-1]
            assert copy.headers["X-Amz-Security-Token"] == f"token-of-{lent[-1]}"


def test_trusts_whom_the_connection_names_and_nobody_else(tmp_path: Path) -> None:
    bundle = Path(get_cert_path(True)).read_text()
    only = tmp_path / "only.pem"
    only.write_text(bundle[: bundle.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n")
    assert len(trusted_by(str(only)).get_ca_certs()) == 1
    assert len(trusted_by(True).get_ca_certs()) > 50


def test_no_copies_between_partitions_of_amazon() -> None:
    paris, virginia, china = (
        key_session().client("s3", region_name=name) for name in ("eu-west-3", "us-east-1", "cn-north-1")
    )
    assert same_server(paris, virginia)
    assert not same_server(paris, china)


SIGNED = {"host", "content-type", "if-none-match"}
ODD = ("plain.png", "ü/é ~+%2F b=c&d?e#f;@:$,!*'()[]|^`{}\"<>.png", "a//b/./c")


@pytest.mark.parametrize("token", [None, "to/ken+=="])
@pytest.mark.parametrize("name", ODD)
async def test_signs_as_botocore_does(proxy: FaultProxy, opened: Open, name: str, token: str | None) -> None:
    """The name in the address too."""
    answer = b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>"
    proxy.answer(200, answer, method="PUT", times=9)
    session = boto3.Session("key", "secret", token, region_name="eu-west-3")
    options = {
        "CopySource": "images/ü a.png",
        "CopySourceIfMatch": '"e"',
        "IfNoneMatch": "*",
        "ContentType": "image/png",
        "Metadata": {"data-export-sha256": "00", "data-export-Odd": " two  blanks, and = "},
        "MetadataDirective": "REPLACE",
        "TaggingDirective": "REPLACE",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "arn:aws:kms:eu-west-3:1:key/a",
        "ACL": "bucket-owner-full-control",
    }
    async with opened(proxy.url, session) as store:
        await store.copies.ask(name, options)
        store.client.copy_object(Bucket=store.root.bucket, Key=name, **options)
    ours, theirs = proxy.requests("PUT")
    assert ours.url.raw_path_qs == theirs.url.raw_path_qs
    signed = re.findall(r"SignedHeaders=([^,]*)", ours.headers["Authorization"])[0].split(";")
    assert set(signed) == {one.lower() for one in ours.headers if one.lower() in SIGNED or one.lower()[:6] == "x-amz-"}
    request = AWSRequest("PUT", f"{proxy.url}{ours.url.raw_path_qs}", {one: ours.headers[one] for one in signed})
    request.context["timestamp"] = ours.headers["X-Amz-Date"]
    signer = S3SigV4Auth(session.get_credentials(), "s3", "eu-west-3")
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    assert ours.headers["Authorization"].endswith(f"Signature={expected}")


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, Path]:
    """As a server signs it for itself, and an authority for no other."""
    paths, config = (tmp_path / "certificate.pem", tmp_path / "key.pem"), tmp_path / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name = name\n[name]\n")
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-config", str(config), *named]
    subprocess.run([*command, "-out", str(paths[0]), "-keyout", str(paths[1])], check=True, capture_output=True)
    return paths


@asynccontextmanager
async def secured(certified: tuple[Path, Path], server: S3Server) -> AsyncIterator[str]:
    """The server's address by TLS, as by a company's proxy that opens all connections."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection(*server.url.removeprefix("http://").split(":"))
        await asyncio.gather(pass_on(reader, inner[1]), pass_on(inner[0], writer))

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certified)
    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        await stop_accepting(listening)


@pytest.mark.parametrize("named", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle of the profile", "verify"])
async def test_with_the_authorities_that_boto3_trusts(
    bucket: str,
    server: S3Server,
    certified: tuple[Path, Path],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    async with secured(certified, server) as url:
        with pytest.raises(TargetRefused, match=r"certificate is not trusted.*AWS_CA_BUNDLE"):
            await all_of(store_of(url, bucket))
        bundle = str(certified[0])
        if named.endswith("_BUNDLE"):
            monkeypatch.setenv(named, bundle)
        elif named.startswith("ca_bundle"):
            (tmp_path / "config").write_text(f"[default]\nca_bundle = {bundle}\n")
        await all_of(store_of(url, bucket, bundle if named == "verify" else None))


def store_of(url: str, bucket: str, verify: str | None = None) -> S3Store:
    session = boto3.Session("key", "secret", region_name="eu-west-3")
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0})
    made = session.client("s3", endpoint_url=url, config=config, verify=verify)
    return S3Store(f"s3://{bucket}/exports/", client=lambda: made, session=lambda: session, patience=QUICK)


@pytest.mark.parametrize("content", [b"small", bytes(9 << 20)], ids=["small", "big"])
@pytest.mark.parametrize("acl", [None, "private"])
async def test_what_a_library_sends_again_by_itself_counts_as_sent(
    proxy: FaultProxy, bucket: str, content: bytes, acl: Any
) -> None:
    """boto3 does, unless the connection says otherwise; the second request finds what the first has written."""
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3, "mode": "standard"})
    made = key_session().client("s3", endpoint_url=proxy.url, config=config)
    store = S3Store(f"s3://{bucket}/", client=lambda: made, session=key_session, patience=QUICK, grants=Grants(acl=acl))
    async with store:
        for method in ("PUT", "POST"):
            proxy.lose_answer(method=method, path="/image")
        placed = await deliver(store, lambda _: "image", Content.of_bytes(content), "replace")
        assert placed.outcome == "created"
        again = await deliver(store, lambda _: "image", Content.of_bytes(content), "replace")
        assert again.outcome == "unchanged"
        with pytest.raises(ObjectExists):
            await store.create("image", Content.of_bytes(content))


async def test_a_look_is_of_one_moment(server: S3Server, bucket: str) -> None:
    """An image that somebody replaces between two requests has not the digests of one and the encoding of the other."""
    raw, looks = key_session().client("s3", endpoint_url=server.url), [0]
    raw.put_object(Bucket=bucket, Key="image", Body=b"plain")

    async def replace(request: Exchange, forward: Forward) -> Answer:
        if request.method == "HEAD" and request.path.endswith("/image"):
            looks[0] += 1
            if looks[0] == 2:
                raw.put_object(Bucket=bucket, Key="image", Body=b"packed", ContentEncoding="gzip")
        return await forward(request)

    with FaultProxy(server.url, replace) as proxy:
        async with s3_store(proxy.url, f"s3://{bucket}/") as store:
            found = await store.stat("image")
    assert found is not None
    assert (found.digests.size, found.encoding) == (6, "gzip")
    assert found.version == raw.head_object(Bucket=bucket, Key="image")["ETag"]
