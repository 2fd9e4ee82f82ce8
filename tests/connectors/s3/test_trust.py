"""Whom a store trusts: the authorities that boto3 would trust, for every request."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.httpsession import get_cert_path

from data_export.delivery.s3.connect import trusted_by
from data_export.delivery.s3.store import S3Store
from data_export.errors import TargetRefused
from demo.servers.loop_thread import stop_accepting
from demo.servers.s3 import S3Server
from tests.connectors.s3.stores import QUICK, all_of


def test_trusts_whom_the_connection_names_and_nobody_else(tmp_path: Path) -> None:
    bundle = Path(get_cert_path(True)).read_text()
    only = tmp_path / "only.pem"
    only.write_text(bundle[: bundle.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n")
    assert len(trusted_by(str(only)).get_ca_certs()) == 1
    assert len(trusted_by(True).get_ca_certs()) > 50


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


def store_of(url: str, bucket: str, verify: str | None = None) -> S3Store:
    session = boto3.Session("key", "secret", region_name="eu-west-3")
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0})
    made = session.client("s3", endpoint_url=url, config=config, verify=verify)
    return S3Store(f"s3://{bucket}/exports/", client=lambda: made, session=lambda: session, patience=QUICK)


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
