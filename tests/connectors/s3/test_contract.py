"""S3 keeps the contract of a store, with bounded memory."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from data_export.content import Content
from data_export.delivery.s3.connect import endpoint_of
from data_export.delivery.s3.store import S3Store
from data_export.errors import (
    ConfigError,
)
from demo.servers.s3 import S3Server
from tests.connectors.contract import Connect, StoreContract, Stored, read_all
from tests.connectors.memory import growth
from tests.connectors.s3.stores import key_session, s3_store


class TestS3(StoreContract):
    @pytest.fixture
    def connect(self, connect: Connect) -> Connect:
        return connect

    @pytest.fixture
    def stored(self, stored: Stored) -> Stored:
        return stored


class TestDigestsOfForeignObjects:
    async def test_their_own_checksums_do_not_stop_a_reader(self, store: S3Store, raw: Any, bucket: str) -> None:
        metadata = {"sha256": hashlib.sha256(b"theirs").hexdigest().upper(), "md5": hashlib.md5(b"theirs").hexdigest()}
        raw.put_object(Bucket=bucket, Key="exports/ü/a", Body=b"theirs", Metadata=metadata)
        assert await read_all(store, "a") == b"theirs"

    async def test_md5_of_one_piece(self, store: S3Store, raw: Any, bucket: str) -> None:
        raw.put_object(Bucket=bucket, Key="exports/ü/a", Body=b"theirs")
        found = await store.stat("a")
        assert found is not None
        assert found.digests.md5 == base64.b64encode(hashlib.md5(b"theirs").digest()).decode()
        assert found.digests.matches(Content.of_bytes(b"theirs", md5=True).digests)

    async def test_etag_of_an_encrypted_object_is_no_md5(self, store: S3Store, raw: Any, bucket: str) -> None:
        raw.put_object(Bucket=bucket, Key="exports/ü/a", Body=b"theirs", ServerSideEncryption="aws:kms")
        found = await store.stat("a")
        assert found is not None
        assert found.digests.md5 is None

    async def test_checksums_of_an_object_in_parts_are_not_of_the_whole(
        self, store: S3Store, raw: Any, bucket: str
    ) -> None:
        target = {"Bucket": bucket, "Key": "exports/ü/a"}
        upload = raw.create_multipart_upload(**target, ChecksumAlgorithm="SHA256")["UploadId"]
        part = raw.upload_part(**target, UploadId=upload, PartNumber=1, Body=b"theirs")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        raw.complete_multipart_upload(**target, UploadId=upload, MultipartUpload=parts)
        found = await store.stat("a")
        assert found is not None
        assert (found.digests.size, found.digests.md5, found.digests.sha256) == (6, None, None)


class TestAddresses:
    @pytest.mark.parametrize(
        ("options", "bucket", "region", "expected"),
        [
            ({}, "customer", "eu-west-3", ("https://customer.s3.eu-west-3.amazonaws.com", True)),
            ({}, "customer", "us-west-2", ("https://customer.s3.us-west-2.amazonaws.com", True)),
            ({}, "a.b", "eu-west-3", ("https://s3.eu-west-3.amazonaws.com", False)),
            ({"endpoint_url": "https://minio:9000"}, "customer", "us-east-1", ("https://minio:9000", False)),
            (
                {"config": Config(s3={"addressing_style": "path"})},
                "c",
                None,
                ("https://s3.eu-west-3.amazonaws.com", False),
            ),
            (
                {"endpoint_url": "https://store", "config": Config(s3={"addressing_style": "virtual"})},
                "customer",
                None,
                ("https://customer.store", True),
            ),
            (
                {"endpoint_url": "https://Store.Example:9000/Path/"},
                "customer",
                None,
                ("https://store.example:9000/Path", False),
            ),
        ],
    )
    def test_obstore_goes_where_boto3_goes(
        self, options: dict[str, Any], bucket: str, region: str | None, expected: tuple[str, bool]
    ) -> None:
        client = key_session().client("s3", **options)
        assert endpoint_of(client, bucket, region) == expected
        client.close()

    @pytest.mark.parametrize("bucket", ["customer", "a.b", "a_b1", "a" * 64])
    @pytest.mark.parametrize("style", ["virtual", "path", "auto"])
    @pytest.mark.parametrize(
        "endpoint_url",
        [
            "https://store",
            "http://store:8080",
            "https://10.0.0.1",
            "https://[::1]:9000",
            "https://bucket.vpce-1.s3.eu-west-3.vpce.amazonaws.com",
        ],
    )
    def test_what_boto3_puts_into_the_path_stays_there(self, endpoint_url: str, style: str, bucket: str) -> None:
        client = key_session().client(
            "s3", endpoint_url=endpoint_url, config=Config(s3={"addressing_style": style}, signature_version="s3v4")
        )
        link = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"}).partition("?")[0]
        endpoint, virtual = endpoint_of(client, bucket, None)
        assert (f"{endpoint}/key" if virtual else f"{endpoint}/{bucket}/key") == link
        client.close()


async def test_memory_does_not_grow_with_the_object(server: S3Server, bucket: str, tmp_path: Path) -> None:
    grown = await growth(
        tmp_path / "big", 80, "tests.connectors.s3.stores", "s3_store", server.url, f"s3://{bucket}/memory/"
    )
    assert grown < 64, f"{grown} MiB"


def test_nothing_connects_before_it_is_entered() -> None:
    assert s3_store("http://127.0.0.1:1", "s3://bucket/folder").uri == "s3://bucket/folder/"
    for wrong in ("gs://bucket/", "s3:///folder", "s3://bucket/../x"):
        with pytest.raises(ConfigError):
            s3_store("http://127.0.0.1:1", wrong)
