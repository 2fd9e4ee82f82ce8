"""Links for a while, by who signs them."""

import urllib.error
import urllib.parse
import urllib.request
from datetime import timedelta

import pytest
from google.auth import compute_engine, impersonated_credentials
from google.auth.credentials import AnonymousCredentials

from data_export.delivery.gcs.store import GcsStore
from data_export.errors import (
    PermanentError,
)
from demo.servers.faults import FaultProxy
from tests.connectors.gcs.stores import gcs_store, key_credentials


class TestLinks:
    async def test_link_of_a_key_names_file_and_lifetime(self, store: GcsStore) -> None:
        link = urllib.parse.urlsplit(await store.sign("a b", timedelta(days=7), "été.json"))
        query = urllib.parse.parse_qs(link.query)
        assert link.path.endswith("/a%20b")
        assert query["X-Goog-Algorithm"] == ["GOOG4-RSA-SHA256"]
        assert query["X-Goog-Expires"] == [str(7 * 24 * 3600)]
        assert query["response-content-disposition"] == ["attachment; filename*=UTF-8''%C3%A9t%C3%A9.json"]

    async def test_more_than_seven_days_are_refused(self, store: GcsStore) -> None:
        with pytest.raises(PermanentError, match="169 hours: set link_ttl_hours to at most 168"):
            await store.sign("a", timedelta(hours=169), "a")

    async def test_links_signed_by_google_are_limited(self, proxy: FaultProxy, bucket: str) -> None:
        impersonated = impersonated_credentials.Credentials(key_credentials(), "x@p.iam.gserviceaccount.com", [])
        for credentials in (impersonated, compute_engine.Credentials()):
            async with gcs_store(proxy.url, f"gs://{bucket}/", credentials) as store:
                with pytest.raises(PermanentError, match="works for 12 hours: set link_ttl_hours to at most 12"):
                    await store.sign("a", timedelta(hours=13), "a")

    async def test_credentials_that_cannot_sign(self, proxy: FaultProxy, bucket: str) -> None:
        async with gcs_store(proxy.url, f"gs://{bucket}/", AnonymousCredentials()) as store:
            with pytest.raises(PermanentError, match="AnonymousCredentials cannot sign links: give"):
                await store.sign("a", timedelta(hours=1), "a")
