"""Presigned links of S3, and how long each kind of credentials can promise them."""

from datetime import timedelta
from typing import Any

from data_export.delivery.base import attachment, check_lifetime, hours
from data_export.delivery.s3.connect import signing_place
from data_export.errors import AccessDenied, PermanentError


def signed_link(
    client: Any, session: Any, bucket: str, region: str | None, name: str, lifetime: timedelta, file_name: str
) -> str:
    """A link to the object that works for `lifetime`. Blocks: credentials of a role may be renewed.

    Args:
        region: the bucket's own, for which a link must be signed: S3 sends whoever opens another elsewhere, or away.

    Raises:
        PermanentError: longer than 7 days, or longer than temporary credentials live: links die with them.
    """
    from botocore.config import Config

    address = f"s3://{bucket}/{name}"
    check_lifetime(address, lifetime)
    credentials = session.get_credentials()
    if credentials is None:
        raise AccessDenied(f"{address}: the Airflow connection gives no AWS credentials: fill in its key")
    if credentials.get_frozen_credentials().token and _ends_within(credentials, lifetime):
        raise PermanentError(
            f"{address}: a link of {hours(lifetime)} cannot be promised: it dies with the temporary credentials "
            "that sign it: set a shorter link_ttl_hours, or give the Airflow connection of staging the access key of "
            "an IAM user"
        )
    # The default for us-east-1 is still version 2, which objects encrypted by KMS refuse.
    region, endpoint = signing_place(client, region)
    # An address by its region is no accelerated one, which botocore refuses to make of it.
    plain = (client.meta.config.s3 or {}) | {"use_accelerate_endpoint": False}
    signer = session.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        config=client.meta.config.merge(Config(signature_version="s3v4", region_name=region, s3=plain)),
    )
    try:
        link: str = signer.generate_presigned_url(
            "get_object",
            Params={"Bucket": bucket, "Key": name, "ResponseContentDisposition": attachment(file_name)},
            ExpiresIn=int(lifetime.total_seconds()),
        )
        return link
    finally:
        signer.close()


def _ends_within(credentials: Any, lifetime: timedelta) -> bool:
    """Whether temporary credentials expire before; those without a known expiry count as expiring."""
    if not hasattr(credentials, "refresh_needed"):
        return True
    return bool(credentials.refresh_needed(refresh_in=lifetime.total_seconds()))
