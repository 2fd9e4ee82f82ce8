"""Every way in which a connection holds credentials, through the provider's hook."""

import asyncio
import base64
import json
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken, AzureSasCredential
from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ResourceTypes,
    generate_account_sas,
)

from data_export.config.platform import load_platform
from data_export.content import Content
from data_export.delivery.abfs.account import access_of
from data_export.delivery.abfs.store import AbfsStore
from data_export.errors import ConfigError, DataExportError, TargetRefused
from data_export_airflow.connections.clients import destination
from demo.servers.abfs import ACCOUNT, KEY, AbfsServer
from demo.servers.faults import FaultProxy
from demo.servers.loop_thread import stop_accepting
from tests.connectors.abfs.stores import store_at
from tests.connectors.contract import DATA_KEY, read_all
from tests.connectors.gcs.stores import gcs_store
from tests.customers import export


def delivering(container: str) -> Any:
    config = {"storage_uri": f"abfs://{container}@{ACCOUNT}/exports/", "export_images": False, "conn_id": "mine"}
    return destination("acme", export(connector_type="cloud_storage", connector_config=config), load_platform())


def token() -> str:
    sas = generate_account_sas(
        ACCOUNT,
        KEY,
        ResourceTypes(container=True, object=True),
        AccountSasPermissions.from_string("racwdl"),
        datetime.now(UTC) + timedelta(hours=1),
    )
    return str(sas)


def connections(url: str) -> dict[str, dict[str, Any]]:
    wasb: dict[str, Any] = {"conn_type": "wasb", "login": ACCOUNT, "host": f"{url}/{ACCOUNT}"}
    string = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url}/{ACCOUNT};"
    return {
        "key": wasb | {"password": KEY},
        "shared key": wasb | {"extra": {"shared_access_key": KEY}},
        "account key": wasb | {"extra": {"account_key": KEY}},
        "SAS token": wasb | {"extra": {"sas_token": token()}},
        "SAS token with its mark": wasb | {"extra": {"sas_token": f"?{token()}"}},
        "connection string": {"conn_type": "wasb", "extra": {"connection_string": string}},
        "string of the form": {"conn_type": "wasb", "extra": {"extra__wasb__connection_string": string}},
    }


@pytest.mark.parametrize("kind", [*connections("")])
async def test_a_connection_reaches_its_account(
    server: AbfsServer, container: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", json.dumps(connections(server.url)[kind]))
    async with delivering(container) as store:
        await store.create(DATA_KEY, Content.of_bytes(b"data"))
        assert await read_all(store, DATA_KEY) == b"data"


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ({"conn_type": "aws", "login": "a", "password": "b"}, "but wasb is needed"),
        ({"conn_type": "wasb", "login": "other", "password": KEY}, "for storage account 'other'"),
        ({"conn_type": "wasb", "extra": {"connection_string": "nonsense"}}, "mine"),
        ({"conn_type": "wasb", "login": ACCOUNT, "password": KEY, "host": "http://a.example/demo"}, "without TLS"),
        ({"conn_type": "wasb", "extra": {"connection_string": "DefaultEndpointsProtocol=http;AccountName=a"}}, "TLS"),
        ({"conn_type": "wasb", "extra": {"connection_string": "BlobEndpoint=http://a.example/;AccountName=a"}}, "TLS"),
    ],
)
async def test_a_connection_that_will_not_do(
    connection: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MINE", json.dumps(connection))
    with pytest.raises(ConfigError, match=words) as refused:
        async with delivering("container"):
            pass
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("off", [False, 0, []])
async def test_certificates_are_verified_whatever_a_connection_says(
    secure: AbfsServer, off: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"connection_verify": off}
    wasb = {"conn_type": "wasb", "login": ACCOUNT, "password": KEY, "host": f"{secure.url}/{ACCOUNT}", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_MINE", json.dumps(wasb))
    with pytest.raises(ConfigError, match=r"'mine' has connection_verify: .*always verified"):
        async with delivering("exports") as store:
            await store.stat(DATA_KEY)


class Identity:
    """A token credential whose tokens Azurite takes: it looks at issuer, audience and times, at no signature."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        now = int(time.time())
        claims = {"iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000001/", "oid": "1", "tid": "2"}
        claims |= {"aud": "https://storage.azure.com", "ver": "1.0"}
        parts = ({"alg": "none", "typ": "JWT"}, claims | {"iat": now - 60, "nbf": now - 60, "exp": now + 3600})
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        return AccessToken(".".join([*encoded, "c2lnbmVk"]), now + 3600)


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


@pytest.fixture
def secure(server: AbfsServer, certified: tuple[Path, Path], tmp_path: Path) -> Iterator[AbfsServer]:
    with AbfsServer(tmp_path / "secure", certificate=certified) as secure:
        yield secure


async def test_an_identity_delivers_and_signs_for_as_long_as_azure_lets_it(
    secure: AbfsServer, certified: tuple[Path, Path]
) -> None:
    settings = {"connection_verify": str(certified[0])}
    with ContainerClient(f"{secure.url}/{ACCOUNT}", "exports", KEY, **settings) as client:
        client.create_container()
    hooked = BlobServiceClient(f"{secure.url}/{ACCOUNT}", Identity(), **settings)  # type: ignore[arg-type]
    uri = f"abfs://exports@{ACCOUNT}/a/"
    async with AbfsStore(uri, connect=lambda: access_of(hooked, uri, "mine", settings)) as store:
        await store.create(DATA_KEY, Content.of_bytes(b"data"))
        assert await read_all(store, DATA_KEY) == b"data"
        for hours in (1, 168):
            link = await store.sign(DATA_KEY, timedelta(hours=hours), "a.json")
            assert "skoid=" in link
            assert "sig=" in link


async def test_the_environments_authorities_are_trusted(
    secure: AbfsServer, certified: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store_at(secure.url, "exports") as store:
        with pytest.raises(TargetRefused, match="certificate is not trusted"):
            await store.stat(DATA_KEY)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certified[0]))
    secure.create_bucket("exports")
    async with store_at(secure.url, "exports") as store:
        assert await store.stat(DATA_KEY) is None
    async with gcs_store(secure.url, "gs://bucket/") as other_cloud:
        with pytest.raises(DataExportError) as refused:
            await other_cloud.stat(DATA_KEY)
        assert "certificate" not in str(refused.value), "it was trusted, and knows nothing of Cloud Storage"
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    async with store_at(secure.url, "exports", connection_verify=str(certified[0])) as store:
        assert await store.stat(DATA_KEY) is None
        assert store.access.transport.connection_config.verify is True, "else each request makes its own TLS context"
    for wrong in (tmp_path / "absent.pem", certified[1]):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(wrong))
        with pytest.raises(ConfigError, match=rf"REQUESTS_CA_BUNDLE: .*{wrong.name} holds no certificates"):
            await store_at(secure.url, "exports").__aenter__()


@asynccontextmanager
async def demanding(certified: tuple[Path, Path]) -> AsyncIterator[tuple[str, set[object]]]:
    """A server that lets only those in who show this certificate; its address, and the connections made to it."""

    async def answer(request: web.BaseRequest) -> web.Response:
        met.add(request.transport)
        return web.Response(status=404, headers={"x-ms-error-code": "BlobNotFound", "Content-Length": "0"})

    met, tls = set[object](), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certified[0]))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(*certified)
    protocols = web.Server(answer)
    listening = await asyncio.get_running_loop().create_server(protocols, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}", met
    finally:
        await stop_accepting(listening)
        await protocols.shutdown()


@pytest.mark.parametrize("kind", ["one file", "two files", "with a password"])
async def test_a_certificate_of_the_connection_is_shown_once(
    certified: tuple[Path, Path], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each request makes a TLS context of its own, and so a connection, which trusts other authorities."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certified[0]))
    shown: dict[str, Any] = {"two files": [*map(str, certified)]}
    (tmp_path / "both.pem").write_text("".join(path.read_text() for path in certified))
    shown["one file"] = str(tmp_path / "both.pem")
    locked = tmp_path / "locked.pem"
    command = ["openssl", "rsa", "-in", str(certified[1]), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    shown["with a password"] = [str(certified[0]), str(locked), "secret"]
    async with demanding(certified) as (url, met):
        async with store_at(url, "exports", connection_cert=shown[kind]) as store:
            for _ in range(5):
                assert await store.stat(DATA_KEY) is None
        assert len(met) == 1
        async with store_at(url, "exports") as store:
            with pytest.raises(DataExportError):
                await store.stat(DATA_KEY)
    for wrong in ([str(certified[0]), str(locked)], str(certified[0]), str(tmp_path / "absent.pem")):
        with pytest.raises(
            ConfigError, match=r"connection '\w+', connection_cert: .*\.pem holds no certificate with"
        ) as refused:
            await store_at(url, "exports", connection_cert=wrong).__aenter__()
        assert "secret" not in str(refused.value)
    with pytest.raises(ConfigError, match="connection_cert that is no path"):
        await store_at(url, "exports", connection_cert={"file": "a"}).__aenter__()


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("https://ours.blob.core.windows.net", "customer.blob.core.windows.net"),
        ("https://ours.blob.core.usgovcloudapi.net", "customer.blob.core.usgovcloudapi.net"),
        ("https://None.blob.core.windows.net", "customer.blob.core.windows.net"),
        ("https://ours.dfs.core.chinacloudapi.cn", "customer.blob.core.chinacloudapi.cn"),
        ("https://customer.z12.blob.storage.azure.net", "customer.z12.blob.storage.azure.net"),
        ("https://customer.z12.dfs.storage.azure.net", "customer.z12.blob.storage.azure.net"),
        ("https://blob.proxy.example", "blob.proxy.example"),
    ],
)
def test_an_identity_reaches_the_account_of_the_address(host: str, reached: str) -> None:
    hooked = BlobServiceClient(host, Identity())  # type: ignore[arg-type]
    assert access_of(hooked, "abfs://exports@customer/a/", "mine", {}).service.primary_hostname == reached


@pytest.mark.parametrize(
    ("host", "credential"),
    [
        ("ours.z12.blob.storage.azure.net", Identity()),
        ("ours.z12.blob.storage.azure.net", "sv=2020&sig=x"),
        ("ours.dfs.core.windows.net", "sv=2020&sig=x"),
        ("ours.dfs.core.windows.net", AzureSasCredential("sv=2020&sig=x")),
    ],
)
def test_no_byte_goes_to_another_account_than_the_address_names(host: str, credential: Any) -> None:
    hooked = BlobServiceClient(f"https://{host}", credential)
    with pytest.raises(ConfigError, match="is for storage account 'ours'"):
        access_of(hooked, "abfs://exports@customer/a/", "mine", {})


def test_a_key_may_come_with_a_host_of_ones_own() -> None:
    string = "BlobEndpoint=https://files.example/;AccountName=customer;AccountKey=a2V5"
    hooked = BlobServiceClient.from_connection_string(string)
    access = access_of(hooked, "abfs://exports@customer/a/", "mine", {})
    assert (access.service.credential.account_name, access.service.primary_hostname) == ("customer", "files.example")


async def test_the_environments_proxy_is_used_and_its_netrc_is_not(
    server: AbfsServer, container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with FaultProxy(server.url) as proxy:
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for without, seen in (("elsewhere", 1), ("127.0.0.1", 1)):
            for name in ("no_proxy", "NO_PROXY"):
                monkeypatch.setenv(name, without)
            async with store_at(server.url, container) as store:
                assert await store.stat("image.png") is None
            assert len(proxy.seen) == seen
