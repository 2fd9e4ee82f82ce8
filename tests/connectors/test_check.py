"""A check finds what would make an export fail, says the fix, and leaves nothing behind."""

import json
import smtplib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from gcloud.aio.storage import Storage
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from multidict import CIMultiDict

from data_export.check.check import check_images, check_mail, check_staging, check_target
from data_export.check.results import CheckResult, row
from data_export.delivery.gcs.store import GcsStore
from data_export.delivery.local.store import LocalStore
from data_export.delivery.registry import SCHEMES
from data_export.delivery.retry import Patience
from data_export.delivery.s3.store import S3Store
from data_export.delivery.sftp.destination import SftpDestination, SftpLogin
from demo.servers.faults import Answer, Exchange, FaultProxy, Forward, Rules
from demo.servers.gcs import GcsServer
from demo.servers.s3 import S3Server
from demo.servers.sftp import SftpServer
from demo.servers.smtp import SmtpServer
from demo.servers.strict import StrictGcs, StrictS3
from tests.connectors.announced import config_of, not_announced
from tests.connectors.s3.stores import client_of, key_session, s3_store

QUICK = Patience(tries=2, first_pause=0.01, longest_pause=0.02, connect=5, answer=20)

GS, S3 = (SCHEMES[name].check for name in ("gs", "s3"))


def failures(results: list[CheckResult]) -> dict[str, str]:
    return {result.step: result.detail for result in results if not result.ok}


def test_a_folder_that_works_passes_every_step_and_stays_empty(tmp_path: Path) -> None:
    results = check_target(LocalStore(tmp_path))
    assert failures(results) == {}
    assert {"target: names with ':'", "target: replace"} <= {result.step for result in results}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert all(line.count("ok") for line in map(row, results))


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
        lacking = self.granting(lambda name: name != missing, StrictGcs(denied={"customer": {missing}}))
        with FaultProxy(gcs.url, lacking) as proxy:
            failed = failures(check_target(self.store(proxy.url, account="exports@platform.example"), check=GS))
        assert list(failed) == [f"target: {missing}"]
        assert "grant roles/storage." in failed[f"target: {missing}"]
        assert "on bucket customer to exports@platform.example" in failed[f"target: {missing}"]

    def test_what_the_folder_alone_grants_is_granted(self, gcs: GcsServer) -> None:
        """As by a condition or a managed folder, of which a question about the bucket tells nothing."""
        with FaultProxy(gcs.url, self.granting(lambda name: name == "storage.buckets.get", StrictGcs())) as proxy:
            results = check_target(self.store(proxy.url), check=GS)
        assert failures(results) == {}
        found = {result.step: result.detail for result in results}
        for right in ("create", "list", "get"):
            assert found[f"target: storage.objects.{right}"] == "granted below gs://customer/exports/"
        assert "not granted on the whole bucket" in found["target: storage.objects.delete"]
        begun, ended = (one for one in proxy.seen if "/upload/" in one.path)
        assert (begun.method, begun.body[:1], ended.method) == ("POST", b"{", "DELETE")
        assert ended.url.query["upload_id"]
        client = Client("demo", AnonymousCredentials(), client_options={"api_endpoint": gcs.url})
        assert list(client.list_blobs("customer")) == []
        client.close()

    def granting(self, granted: Callable[[str], bool], rules: StrictGcs) -> Rules:
        """A server that says of the bucket that it grants these, and does as the rules have it."""

        async def answer(request: Exchange, forward: Forward) -> Answer:
            if not request.url.path.endswith("/iam/testPermissions"):
                return await rules(request, forward)
            names = [name for name in request.url.query.getall("permissions") if granted(name)]
            body = json.dumps({"permissions": names}).encode()
            return Answer(200, CIMultiDict({"Content-Type": "application/json"}), body)

        return answer

    def test_a_bucket_that_is_right_passes_and_stays_empty(self, gcs: GcsServer) -> None:
        results = check_target(self.store(gcs.url), check=GS)
        assert failures(results) == {}
        assert (
            not_announced(results, config_of("cloud_storage", storage_uri="gs://customer/", export_images=True))
            == set()
        )
        client = Client("demo", AnonymousCredentials(), client_options={"api_endpoint": gcs.url})
        assert list(client.list_blobs("customer")) == []
        client.close()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


class TestS3:
    def store(self, url: str, bucket: str) -> S3Store:
        return s3_store(url, f"s3://{bucket}/exports/")

    @pytest.fixture
    def bucket(self, s3: S3Server) -> str:
        name = f"customer-{uuid4().hex}"
        s3.create_bucket(name)
        return name

    @pytest.fixture
    def raw(self, s3: S3Server) -> Iterator[Any]:
        client = client_of(s3.url, key_session())
        yield client
        client.close()

    def test_a_bucket_that_is_right_passes_and_stays_empty(self, s3: S3Server, bucket: str, raw: Any) -> None:
        results = check_target(self.store(s3.url, bucket), ["a", "b"], S3)
        assert failures(results) == {}
        assert (
            not_announced(results, config_of("cloud_storage", storage_uri="s3://bucket/", export_images=True)) == set()
        )
        assert raw.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
        assert raw.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []

    def test_a_missing_bucket_is_told(self, s3: S3Server) -> None:
        assert "no bucket absent" in str(failures(check_target(self.store(s3.url, "absent"), check=S3)))

    @pytest.mark.parametrize("right", ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"])
    @pytest.mark.parametrize("filled", [False, True])
    def test_each_missing_right_is_told_apart(
        self, s3: S3Server, bucket: str, raw: Any, right: str, filled: bool
    ) -> None:
        if filled:
            raw.put_object(Bucket=bucket, Key="exports/a", Body=b"x")
        with FaultProxy(s3.url, StrictS3(denied={right})) as proxy:
            failed = failures(check_target(self.store(proxy.url, bucket), check=S3))
        assert list(failed) == [f"target: {right}"]
        assert f"lacks {right} on bucket {bucket}" in failed[f"target: {right}"]
        assert raw.list_objects_v2(Bucket=bucket)["KeyCount"] == filled

    def test_the_identity_is_named_where_sts_tells_it(
        self, s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps = {result.step for result in check_target(self.store(s3.url, bucket), check=S3)}
        assert "target: identity" not in steps, "another server's keys were shown to AWS"
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3.url)
        (found,) = (one for one in check_target(self.store(s3.url, bucket), check=S3) if one.step == "target: identity")
        assert found.ok
        assert found.detail.startswith("arn:aws:")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
        results = check_target(self.store(s3.url, bucket), check=S3)
        assert failures(results) == {}
        assert "target: identity" not in {result.step for result in results}


class TestMail:
    def test_a_recipient_that_is_refused_is_told_and_no_mail_is_sent(self, tmp_path: Path) -> None:
        with SmtpServer(tmp_path / "mail", refused={"eve@customer.example"}) as server:
            results = check_mail(
                lambda: smtplib.SMTP(server.host, server.port, timeout=10),
                "exports@platform.example",
                ["bob@customer.example", "eve@customer.example", "dan@customer.example"],
            )
            assert list(failures(results)) == ["mail: recipient 2"]
            assert not_announced(results, config_of("email", emails=["bob@customer.example"])) == set()
            assert "e***@customer.example" in str(failures(results))
            assert "eve@" not in "".join(map(row, results))
            assert list(server.messages()) == []

    def test_a_dead_server_is_the_one_failure(self) -> None:
        def connect() -> smtplib.SMTP:
            return smtplib.SMTP("127.0.0.1", 1, timeout=3)

        assert list(failures(check_mail(connect, "a@platform.example", ["b@customer.example"]))) == [
            "mail: server and login accepted"
        ]
