"""What each object that is written carries, its encryption and its owner, and what a server says of it."""

import dataclasses

import pytest

from data_export.content import Content
from data_export.delivery.s3.dialect import Grants
from data_export.errors import AccessDenied, TargetRefused, TargetUnavailable
from demo.servers.faults import Answer
from demo.servers.strict import s3_error
from tests.connectors.contract import Stored, read_all
from tests.connectors.s3.poor import BIG, IMPLIES, SMALL, Place, named


@pytest.mark.parametrize(
    ("grants", "refusal", "words"),
    [
        (Grants(), named(400, "InvalidRequest", "the object is not one we like"), "not one we like"),
        (Grants(), named(501, "NotImplemented", IMPLIES), "implies functionality"),
        (Grants(acl="private"), named(501, "NotImplemented", IMPLIES, Header="x-amz-acl"), "remove acl"),
        (Grants(acl="private"), named(400, "InvalidArgument", "no", ArgumentName="x-amz-acl"), "remove acl"),
        (Grants(acl="private"), named(400, "InvalidBucketAclWithObjectOwnership", "BucketOwnerEnforced"), "remove acl"),
        (Grants("aws:kms"), named(501, "NotImplemented", "but KMS is not configured"), "remove sse"),
        (Grants("aws:kms"), named(501, "NotImplemented", IMPLIES, Header="x-amz-server-side-encryption"), "remove sse"),
        (Grants("aws:kms"), named(400, "InvalidArgument", "no", ArgumentName="x-amz-server-side-encryption"), "sse"),
        (Grants("aws:kms", "x"), named(400, "InvalidArgument", "Invalid KMS keyId"), "correct sse_kms_key_id"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content", [SMALL, BIG], ids=["small", "big"])
async def test_what_no_header_of_ours_explains_is_not_done_without(
    place: Place, grants: Grants, refusal: Answer, words: str, content: Content
) -> None:
    """Else the next write would have a weaker promise for nothing."""
    place.rules.refused["x-amz-(acl|server-side)" if grants != Grants() else "Content-Type"] = refusal
    async with place.store(grants) as store:
        with pytest.raises(TargetRefused, match=words):
            await store.create("a", content)
        assert store.dialect.lacking == {}


async def test_a_policy_is_no_header_that_a_server_lacks(place: Place) -> None:
    words = "Policy Condition failed: x-amz-meta-owner"
    place.rules.refused["Content-Type"] = named(403, "AccessDenied", words)
    async with place.store() as store:
        with pytest.raises(AccessDenied, match="Condition failed"):
            await store.create("a", SMALL)
        assert store.dialect.lacking == {}


class TestGrants:
    GRANTS = Grants("aws:kms", "alias/customer", "bucket-owner-full-control")
    HEADERS = (
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "alias/customer"),
        ("x-amz-acl", "bucket-owner-full-control"),
    )

    @pytest.mark.parametrize("acl", [None, "bucket-owner-full-control"])
    async def test_each_object_that_is_written_carries_them(
        self, place: Place, stored: Stored, acl: str | None
    ) -> None:
        async with place.store(dataclasses.replace(self.GRANTS, acl=acl)) as store:
            await store.create("a", SMALL)
            await store.replace("a", SMALL)
            await store.create("b", BIG)
            await store.copy_from(store, "a", "c")
            assert await read_all(store, "b") == BIG.source
        begun = place.proxy.requests("POST", r"\?uploads")
        puts = [one for one in place.proxy.requests("PUT") if "partNumber" not in one.url.query]
        assert len(begun) == 1
        assert len(puts) >= 3
        for request in (*begun, *puts):
            for name, value in self.HEADERS if acl else self.HEADERS[:2]:
                assert request.headers.get(name) == value
                assert name in request.headers["Authorization"], "not signed"
        for request in place.proxy.requests("GET"):
            assert not any(name.startswith(("x-amz-server-side", "x-amz-acl")) for name in request.headers)
        assert stored("a") == stored("c") == SMALL.source

    def test_check_writes_with_them(self, place: Place) -> None:
        place.checked(self.GRANTS)
        for request in (*place.proxy.requests("POST", r"\?uploads"), *place.proxy.requests("PUT", "check$")):
            assert all(request.headers.get(name) == value for name, value in self.HEADERS)

    @pytest.mark.parametrize(
        ("status", "code", "message", "error", "words"),
        [
            (403, "AccessDenied", "may not: kms:GenerateDataKey on arn:aws", AccessDenied, "lacks kms:GenerateDataKey"),
            (403, "AccessDenied", "may not: kms:Decrypt on arn:aws:kms:x", AccessDenied, "lacks kms:Decrypt"),
            (403, "AccessDenied", "with an explicit deny in a policy", AccessDenied, "a policy forbids s3:PutObject"),
            (403, "AccessDenied", "kms:Decrypt with an explicit deny", AccessDenied, "a policy forbids"),
            (400, "KMS.NotFoundException", "Key 'x' does not exist", TargetRefused, "correct sse_kms_key_id"),
            (400, "KMS.DisabledException", "arn:x is disabled.", TargetRefused, "enable"),
            (400, "KMS.KMSInvalidStateException", "arn:x is pending deletion.", TargetRefused, "enable"),
            (400, "KMS.AccessDeniedException", "no", AccessDenied, "kms:GenerateDataKey"),
            (400, "KMS.ThrottlingException", "rate", TargetUnavailable, "try again"),
            (503, "KMS.KMSServiceUnavailable", "sorry", TargetUnavailable, "try again"),
            (400, "KMSKeyNotFound", "no such key", TargetRefused, "correct sse_kms_key_id"),
            (400, "InvalidRequest", "Bucket does not take ACLs", TargetRefused, "remove acl"),
            (400, "InvalidArgument", "requires x-amz-server-side-encryption: aws:kms", TargetRefused, "correct or rem"),
            (400, "AccessControlListNotSupported", "The bucket does not allow ACLs", TargetRefused, "remove acl"),
            (501, "NotImplemented", "Server side encryption specified but KMS is not configured", TargetRefused, "sse"),
        ],
    )  # fmt: skip
    async def test_what_the_key_or_the_policy_says(
        self, place: Place, status: int, code: str, message: str, error: type[Exception], words: str
    ) -> None:
        place.proxy.answer(status, s3_error(status, code, message).body, method="PUT", times=99)
        async with place.store(self.GRANTS) as store:
            with pytest.raises(error, match=words) as refusal:
                await store.create("a", SMALL)
        assert message[:12] in str(refusal.value)
