"""What Azure refuses is said in the service's words: who lacks what, and the fix."""

from pathlib import Path

import pytest

from data_export.content import Content
from data_export.delivery.abfs.errors import translated
from data_export.errors import (
    AccessDenied,
    ConfigError,
    CredentialsRefused,
    DataExportError,
    ObjectExists,
    ObjectRefused,
    OverwriteRefused,
    PermanentError,
    TargetNotFound,
    TargetRefused,
)
from demo.servers.abfs import AbfsServer
from demo.servers.faults import FaultProxy
from tests.connectors.abfs.refusals import Refuses
from tests.connectors.abfs.stores import store_at
from tests.connectors.contract import DATA_KEY

LOGINS = [
    ("Request date header too old: 'Thu, 26 Nov 2026 10:00:00 GMT'", "clock is wrong"),
    (
        "Signature not valid in the specified time frame: Start [a] - Expiry [b]",
        "expired or not yet valid",
    ),
    ("Issuer validation failed. Issuer did not match.", "another tenant"),
    ("Audience validation failed. Audience did not match.", "remove audience"),
    ("Signature did not match. String to sign used was r", "SAS token is damaged or its key was rotated"),
    (
        "The MAC signature found in the request 'c2VjcmV0' is not the same as any computed one",
        "key is wrong",
    ),
    ("Something new.", "refuses the login"),
]
CODES = [
    (403, "AccountIsDisabled", CredentialsRefused, "account is disabled"),
    (403, "AuthorizationFailure", AccessDenied, "firewall"),
    (403, "AuthorizationPermissionMismatch", AccessDenied, "Storage Blob Data Contributor"),
    (403, "AuthorizationSourceIPMismatch", CredentialsRefused, "other addresses"),
    (403, "AuthorizationServiceMismatch", CredentialsRefused, "ss=b"),
    (403, "KeyBasedAuthenticationNotPermitted", CredentialsRefused, "no shared keys"),
    (403, "InsufficientAccountPermissions", AccessDenied, "does not permit"),
    (403, "SomethingNew", AccessDenied, "403 SomethingNew"),
    (401, "NoAuthenticationInformation", CredentialsRefused, "no credentials"),
    (409, "PublicAccessNotPermitted", CredentialsRefused, "credentials"),
    (404, "ContainerNotFound", TargetNotFound, "no such container"),
    (404, "", TargetNotFound, "correct the address"),
    (409, "BlobArchived", ObjectRefused, "archive"),
    (409, "PathConflict", TargetRefused, "folder"),
    (412, "LeaseLost", OverwriteRefused, "break it"),
    (409, "LeaseIdMismatchWithBlobOperation", OverwriteRefused, "break it"),
    (412, "SomethingNew", TargetRefused, "412 SomethingNew"),
    (400, "InvalidHeaderValue", TargetRefused, "api_version"),
    (409, "SomethingNew", TargetRefused, "409 SomethingNew"),
]


@pytest.mark.parametrize(("detail", "words"), LOGINS)
@pytest.mark.parametrize("code", ["AuthenticationFailed", "InvalidAuthenticationInfo"])
async def test_a_refused_login_says_what_is_wrong_with_it(
    server: AbfsServer, container: str, detail: str, words: str, code: str
) -> None:
    status = 403 if code == "AuthenticationFailed" else 401
    with FaultProxy(server.url, Refuses(status, code, detail)) as proxy:
        async with store_at(proxy.url, container) as store:
            with pytest.raises(CredentialsRefused, match=words) as refused:
                await store.create(DATA_KEY, Content.of_bytes(b"x"))
            assert len(proxy.seen) == 1
            with pytest.raises(CredentialsRefused, match=words):  # a HEAD has no details: they are asked for
                await store.stat(DATA_KEY)
            assert len(proxy.seen) == 3
    assert "c2VjcmV0" not in str(refused.value)


@pytest.mark.parametrize(("status", "code", "kind", "words"), CODES)
async def test_a_refusal_is_not_tried_again(
    server: AbfsServer, container: str, status: int, code: str, kind: type[DataExportError], words: str
) -> None:
    with FaultProxy(server.url, Refuses(status, code)) as proxy:
        async with store_at(proxy.url, container) as store:
            content = Content.of_bytes(b"x")
            write = store.replace if kind is OverwriteRefused else store.create  # a creator hears that it is there
            for operation in (write(DATA_KEY, content), store.stat(DATA_KEY)):
                with pytest.raises(kind, match=words) as refused:
                    await operation
                assert isinstance(refused.value, PermanentError)
        assert len(proxy.seen) == 2 + (kind is CredentialsRefused)


async def test_a_blob_in_the_archive_is_not_replaced(server: AbfsServer, container: str) -> None:
    """Others would be: this one is kept as one under a policy is."""
    for code in ("BlobArchived", "BlobBeingRehydrated"):
        with FaultProxy(server.url, Refuses(409, code, method="PUT")) as proxy:
            async with store_at(proxy.url, container) as store:
                with pytest.raises(OverwriteRefused, match="archive tier"):
                    await store.replace(DATA_KEY, Content.of_bytes(b"x"))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AuthorizationPermissionMismatch"),
        (403, "UnauthorizedBlobOverwrite"),
        (409, "BlobImmutableDueToPolicy"),
        (412, "LeaseIdMissing"),
        (409, "InvalidBlobType"),
    ],
)
async def test_what_may_not_be_replaced(server: AbfsServer, container: str, status: int, code: str) -> None:
    async with store_at(server.url, container) as store:
        await store.create(DATA_KEY, Content.of_bytes(b"old"))
    with FaultProxy(server.url, Refuses(status, code, method="PUT")) as proxy:
        async with store_at(proxy.url, container) as store:
            with pytest.raises(OverwriteRefused, match="if_exists"):
                await store.replace(DATA_KEY, Content.of_bytes(b"new"))


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "UnauthorizedBlobOverwrite"), (409, "BlobImmutableDueToPolicy"), (412, "LeaseIdMissing")],
)
async def test_a_creator_hears_that_somebody_was_quicker(
    server: AbfsServer, container: str, status: int, code: str, tmp_path: Path
) -> None:
    """A token that may only create, or a policy, has Azure answer so instead of by our own condition."""
    big = tmp_path / "big"
    big.write_bytes(bytes(5 << 20))
    async with store_at(server.url, container) as source:
        await source.create("image", Content.of_bytes(b"pixels"))
        with FaultProxy(server.url, Refuses(status, code, method="PUT", path="^(?!.*comp=block&)")) as proxy:
            async with store_at(proxy.url, container) as store:
                for write in (
                    store.create(DATA_KEY, Content.of_bytes(b"new")),
                    store.create(DATA_KEY, Content.of_file(big)),
                    store.copy_from(source, "image", DATA_KEY),
                ):
                    with pytest.raises(ObjectExists, match=code):
                        await write


async def test_a_real_lease_lets_nothing_be_replaced(server: AbfsServer, container: str) -> None:
    async with store_at(server.url, container) as store:
        await store.create(DATA_KEY, Content.of_bytes(b"old"))
        lease = await store.blob(DATA_KEY).acquire_lease()
        with pytest.raises(OverwriteRefused, match="lease"):
            await store.replace(DATA_KEY, Content.of_bytes(b"new"))
        with pytest.raises(ObjectExists):
            await store.create(DATA_KEY, Content.of_bytes(b"new"))
        await lease.release()


async def test_a_wrong_key_and_a_missing_container(server: AbfsServer, container: str) -> None:
    async with store_at(server.url, container, credential="d3Jvbmc=") as store:
        with pytest.raises(AccessDenied):  # Azurite says AuthorizationFailure, Azure AuthenticationFailed
            await store.stat(DATA_KEY)
    async with store_at(server.url, container, credential="abcde") as store:
        with pytest.raises(CredentialsRefused, match="key is wrong"):
            await store.stat(DATA_KEY)
    async with store_at(server.url, "missing") as store:
        for operation in (store.stat(DATA_KEY), store.create(DATA_KEY, Content.of_bytes(b"x"))):
            with pytest.raises(TargetNotFound, match="no such container"):
                await operation


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ("AADSTS90002: Tenant 'x' not found.", "no such tenant"),
        ("AADSTS700016: Application 'x' was not found in the directory", "no such application"),
        ("AADSTS7000215: Invalid client secret provided.", "secret is wrong"),
        ("AADSTS7000222: The provided client secret keys are expired.", "secret is expired"),
        ("AADSTS700024: Client assertion is not within its valid time range.", "clock"),
        ("AADSTS53003: Access has been blocked by Conditional Access policies.", "conditional access"),
        ("AADSTS7000112: Application is disabled.", "disabled"),
        ("The current credential is not configured to acquire tokens for tenant abc", "another tenant"),
        ("DefaultAzureCredential failed to retrieve a token from the included credentials.", "managed identity"),
        ("AADSTS99999: news", "AADSTS99999"),
    ],
)
def test_what_entra_refuses(words: str, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    monkeypatch.setattr("data_export.delivery.abfs.errors.in_a_cloud", lambda: False)
    found = translated(ClientAuthenticationError(f"Authentication failed: {words}"), "abfs://c@acct/")
    assert isinstance(found, CredentialsRefused)
    assert fix in str(found)


async def test_credentials_of_another_account_are_refused(server: AbfsServer, container: str) -> None:
    from azure.storage.blob import BlobServiceClient

    from data_export.delivery.abfs.account import access_of

    for url in ("https://other.blob.core.windows.net", "https://other.blob.core.usgovcloudapi.net"):
        with pytest.raises(ConfigError, match=r"storage account 'other', but abfs://c@acct/ names 'acct'"):
            access_of(BlobServiceClient(url, "a2V5"), "abfs://c@acct/", "mine", {})
        with pytest.raises(ConfigError, match="no credentials"):
            access_of(BlobServiceClient(url), "abfs://c@acct/", "mine", {})
