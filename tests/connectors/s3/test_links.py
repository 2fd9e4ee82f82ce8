"""Links for a while, by whose credentials sign them."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from data_export.delivery.s3.connect import signed_link
from data_export.delivery.s3.store import S3Store
from data_export.errors import (
    PermanentError,
)
from demo.servers.faults import FaultProxy
from demo.servers.s3 import S3Server
from tests.connectors.s3.stores import s3_store


class TestLinks:
    async def test_link_names_file_and_lifetime(self, store: S3Store) -> None:
        query = parse_qs(urlsplit(await store.sign("a b", timedelta(days=7), "été.json")).query)
        assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
        assert query["X-Amz-Expires"] == [str(7 * 24 * 3600)]
        assert query["response-content-disposition"] == ["attachment; filename*=UTF-8''%C3%A9t%C3%A9.json"]

    async def test_is_signed_for_the_region_of_the_bucket(
        self, server: S3Server, proxy: FaultProxy, bucket: str
    ) -> None:
        """The session's region is eu-west-3, the emulator says that its bucket is in us-east-1."""
        async with s3_store(proxy.url, f"s3://{bucket}/") as store:
            query = parse_qs(urlsplit(await store.sign("a", timedelta(hours=1), "a.json")).query)
            assert "/us-east-1/s3/aws4_request" in query["X-Amz-Credential"][0]

    @pytest.mark.parametrize("connection", ["eu-west-3", "us-east-1"])
    def test_of_amazon_names_the_region_in_its_host(self, connection: str) -> None:
        session = boto3.Session("key", "secret", region_name=connection)
        link = signed_link(session.client("s3"), session, "staging", "ap-south-1", "a", timedelta(hours=1), "a.json")
        assert urlsplit(link).netloc.endswith("s3.ap-south-1.amazonaws.com")
        assert "/ap-south-1/s3/aws4_request" in parse_qs(urlsplit(link).query)["X-Amz-Credential"][0]

    @pytest.mark.parametrize(
        ("connection", "options", "bucket", "host"),
        [
            ("us-east-1", {"use_fips_endpoint": True}, "us-east-1", "s3-fips.us-east-1.amazonaws.com"),
            ("us-east-1", {"use_fips_endpoint": True}, "us-west-2", "s3-fips.us-west-2.amazonaws.com"),
            ("eu-west-1", {"use_dualstack_endpoint": True}, "us-west-2", "s3.dualstack.us-west-2.amazonaws.com"),
            ("eu-west-1", {"s3": {"use_accelerate_endpoint": True}}, "eu-west-3", "s3.eu-west-3.amazonaws.com"),
            ("us-gov-west-1", {}, "us-gov-east-1", "s3.us-gov-east-1.amazonaws.com"),
            ("cn-north-1", {}, "cn-northwest-1", "s3.cn-northwest-1.amazonaws.com.cn"),
            ("eusc-de-east-1", {}, "eusc-de-west-1", "s3.eusc-de-west-1.amazonaws.eu"),
        ],
    )
    def test_of_amazons_other_addresses(self, connection: str, options: dict[str, Any], bucket: str, host: str) -> None:
        session = boto3.Session("key", "secret", region_name=connection)
        with closing(session.client("s3", config=Config(**options))) as client:
            link = signed_link(client, session, "staging", bucket, "a", timedelta(hours=1), "a.json")
        assert (urlsplit(link).hostname or "").removeprefix("staging.") == host
        assert f"/{bucket}/s3/aws4_request" in parse_qs(urlsplit(link).query)["X-Amz-Credential"][0]

    async def test_more_than_seven_days_are_refused(self, store: S3Store) -> None:
        with pytest.raises(PermanentError, match="169 hours: set link_ttl_hours to at most 168"):
            await store.sign("a", timedelta(hours=169), "a")

    async def test_temporary_credentials_limit_the_link(self, proxy: FaultProxy, bucket: str) -> None:
        fixed = boto3.Session("key", "secret", "token", region_name="eu-west-3")
        async with s3_store(proxy.url, f"s3://{bucket}/", fixed) as store:
            with pytest.raises(PermanentError, match="dies with the temporary credentials"):
                await store.sign("a", timedelta(minutes=1), "a")
        async with s3_store(proxy.url, f"s3://{bucket}/", role_session(timedelta(hours=6))) as store:
            assert "X-Amz-Security-Token=token" in await store.sign("a", timedelta(hours=5), "a")
            with pytest.raises(PermanentError, match="set a shorter link_ttl_hours, or give"):
                await store.sign("a", timedelta(hours=7), "a")


def role_session(lifetime: timedelta) -> Any:
    """A session as an assumed role makes it."""
    session = boto3.Session(region_name="eu-west-3")
    session._session._credentials = RefreshableCredentials.create_from_metadata(
        {
            "access_key": "key",
            "secret_key": "secret",
            "token": "token",
            "expiry_time": (datetime.now(UTC) + lifetime).isoformat(),
        },
        refresh_using=lambda: pytest.fail("these credentials are still good"),
        method="sts-assume-role",
    )
    return session
