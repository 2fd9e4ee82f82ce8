"""A check finds what would make an export fail, says the fix, and leaves nothing behind."""

import json
import smtplib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import aiohttp
import boto3
import pytest
from botocore.config import Config
from gcloud.aio.storage import Storage
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from multidict import CIMultiDict

from data_export.check import CheckResult, check_images, check_mail, check_staging, check_target, table
from data_export.delivery.cloud_retry import Patience
from data_export.delivery.gcs import GcsStore
from data_export.delivery.local import LocalStore
from data_export.delivery.s3 import S3Store
from data_export.delivery.sftp import SftpDestination, SftpLogin
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from demo.servers.smtp import SmtpServer

QUICK = Patience(tries=2, first_pause=0.01, longest_pause=0.02, connect=5, answer=20)


def failures(results: list[CheckResult]) -> dict[str, str]:
    return {result.step: result.detail for result in results if not result.ok}


def test_a_folder_that_works_passes_every_step_and_stays_empty(tmp_path: Path) -> None:
    results = check_target(LocalStore(tmp_path))
    assert failures(results) == {}
    assert {"target: names with ':'", "target: replace"} <= {result.step for result in results}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert all(line.count("ok") for line in table(results).splitlines())


def test_an_image_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file, not a folder")
    assert "images: readable at the source" in failures(check_images(LocalStore(tmp_path / "images")))


def test_a_link_that_nobody_can_sign_is_told(tmp_path: Path) -> None:
    assert list(failures(check_staging(LocalStore(tmp_path), timedelta(hours=12)))) == ["staging: link"]
    assert failures(check_staging(LocalStore(tmp_path), None)) == {}


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    with SftpServer(tmp_path_factory.mktemp("sftp")) as server:
        yield server


class TestSftp:
    @pytest.fixture
    def login(self, sftp: SftpServer) -> SftpLogin:
        return SftpLogin(
            host=sftp.host,
            port=sftp.port,
            username=sftp.username,
            private_key_path=str(sftp.private_key_path),
            passphrase=sftp.passphrase,
            host_key=sftp.host_key,
        )

    def test_a_server_that_works_passes_and_keeps_no_file(self, sftp: SftpServer, login: SftpLogin) -> None:
        assert failures(check_target(SftpDestination(login, "/new/folder"))) == {}
        assert [path for path in sftp.root.rglob("*") if path.is_file()] == []

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"username": "nobody-we-know"}, "nobody-we-know"),
            ({"passphrase": "wrong"}, "passphrase"),
            ({"port": 1}, "127.0.0.1:1"),
        ],
    )
    def test_what_keeps_us_out_is_the_one_failure(self, login: SftpLogin, change: dict[str, str], words: str) -> None:
        failed = failures(check_target(SftpDestination(replace(login, **change), "/x", connect_timeout=3)))
        assert list(failed) == ["target: name, key and login accepted"]
        assert words in str(failed)
        assert "wrong" not in str(failed) or words == "passphrase"


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    with GcsServer(tmp_path_factory.mktemp("gcs")) as server:
        server.create_bucket("customer")
        yield server


class TestGcs:
    def store(self, url: str, bucket: str = "customer", account: str | None = None) -> GcsStore:
        credentials = AnonymousCredentials()
        if account:
            credentials.service_account_email = account

        async def aio_client(session: aiohttp.ClientSession) -> Storage:
            return Storage(session=session, api_root=url)

        return GcsStore(
            f"gs://{bucket}/exports/",
            client=lambda: Client("demo", AnonymousCredentials(), client_options={"api_endpoint": url}),
            aio_client=aio_client,
            credentials=lambda: credentials,
            patience=QUICK,
        )

    @pytest.mark.parametrize(
        "missing",
        ["storage.objects.create", "storage.objects.list", "storage.objects.get", "storage.buckets.get"],
    )
    def test_each_missing_permission_is_named_with_a_role(self, gcs: GcsServer, missing: str) -> None:
        async def lacking(request: Exchange, forward: Forward) -> Answer:
            if not request.url.path.endswith("/iam/testPermissions"):
                return await forward(request)
            asked = request.url.query.getall("permissions")
            granted = json.dumps({"permissions": [name for name in asked if name != missing]}).encode()
            return Answer(200, CIMultiDict({"Content-Type": "application/json"}), granted)

        with FaultProxy(gcs.url, lacking) as proxy:
            failed = failures(check_target(self.store(proxy.url, account="exports@platform.example")))
        assert list(failed) == [f"target: {missing}"]
        assert "grant roles/storage." in failed[f"target: {missing}"]
        assert "on bucket customer to exports@platform.example" in failed[f"target: {missing}"]

    def test_a_bucket_that_is_right_passes_and_stays_empty(self, gcs: GcsServer) -> None:
        assert failures(check_target(self.store(gcs.url))) == {}
        client = Client("demo", AnonymousCredentials(), client_options={"api_endpoint": gcs.url})
        assert list(client.list_blobs("customer")) == []
        client.close()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


class TestS3:
    def store(self, s3: S3Server, bucket: str) -> S3Store:
        session = boto3.Session("key", "secret", region_name="us-east-1")
        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        return S3Store(
            f"s3://{bucket}/exports/",
            client=lambda: session.client("s3", endpoint_url=s3.url, config=config),
            session=lambda: session,
            patience=QUICK,
        )

    def test_a_bucket_that_is_right_passes_and_stays_empty(self, s3: S3Server) -> None:
        bucket = f"customer-{uuid4().hex}"
        s3.create_bucket(bucket)
        store = self.store(s3, bucket)
        assert failures(check_target(store)) == {}
        client = store._make_client()
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
        assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
        client.close()

    def test_a_missing_bucket_is_told(self, s3: S3Server) -> None:
        assert "no bucket absent" in str(failures(check_target(self.store(s3, "absent"))))


class TestMail:
    def test_a_recipient_that_is_refused_is_told_and_no_mail_is_sent(self, tmp_path: Path) -> None:
        with SmtpServer(tmp_path / "mail", refused={"eve@customer.example"}) as server:
            results = check_mail(
                lambda: smtplib.SMTP(server.host, server.port, timeout=10),
                "exports@platform.example",
                ["bob@customer.example", "eve@customer.example", "dan@customer.example"],
            )
            assert list(failures(results)) == ["mail: recipient 2"]
            assert "e***@customer.example" in str(failures(results))
            assert "eve@" not in table(results)
            assert list(server.messages()) == []

    def test_a_dead_server_is_the_one_failure(self) -> None:
        def connect() -> smtplib.SMTP:
            return smtplib.SMTP("127.0.0.1", 1, timeout=3)

        assert list(failures(check_mail(connect, "a@platform.example", ["b@customer.example"]))) == [
            "mail: server and login accepted"
        ]
