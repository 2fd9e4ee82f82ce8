"""Every request is signed as botocore would sign it, with the credentials of its moment."""

import re
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials

from data_export.content import Content
from demo.servers.faults import FaultProxy
from tests.connectors.s3.stores import Open


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
