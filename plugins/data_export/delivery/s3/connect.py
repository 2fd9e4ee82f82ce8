"""Makes an obstore client that reaches the same server in the same way as a boto3 client, and links to that server."""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from data_export.delivery.base import attachment, check_lifetime, hours
from data_export.delivery.retry import Patience, authorities
from data_export.delivery.s3.dialect import amazon_domain, bundle_of, is_amazon, signed_for
from data_export.delivery.s3.errors import explain
from data_export.errors import AccessDenied, CredentialsRefused, PermanentError, TargetNotFound

if TYPE_CHECKING:
    from obstore.store import ClientConfig
    from obstore.store import S3Store as ObjectStore

_OF_NO_BODY = hashlib.sha256(b"").hexdigest()
_IN_A_HOST = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def bucket_region(client: Any, bucket: str) -> str | None:
    """The bucket's region as S3 says it; None where it does not. Blocks.

    Raises:
        TargetNotFound: no such bucket.
        botocore.exceptions.BotoCoreError, ClientError: nobody answers, or no credentials.
    """
    from botocore.exceptions import ClientError

    try:
        region: str | None = client.head_bucket(Bucket=bucket).get("BucketRegion")
    except ClientError as error:
        answer = error.response["ResponseMetadata"]
        if error.operation_name != "HeadBucket":  # the role of the connection cannot be assumed
            raise
        if answer["HTTPStatusCode"] == 404:
            raise TargetNotFound(
                f"s3://{bucket}/: there is no bucket {bucket}: create it or correct the address"
            ) from None
        if answer["HTTPStatusCode"] not in (301, 400, 403):
            raise
        _refuse_credentials(client, bucket)
        region = answer["HTTPHeaders"].get("x-amz-bucket-region")  # sent even to those who may not list
    return region


def _refuse_credentials(client: Any, bucket: str) -> None:
    """An answer to HEAD has no body, so no code that says whether a right or the key itself is the matter: asks again.

    Raises:
        botocore.exceptions.ClientError: the server knows the key not, or no more.
    """
    from botocore.exceptions import ClientError

    try:
        client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except ClientError as error:
        if isinstance(explain(error, bucket, "", ""), CredentialsRefused):
            raise


def instant(text: str) -> Any:
    """A time as S3 says it; in its own spelling without dateutil, which is far slower."""
    from botocore.utils import parse_timestamp

    with suppress(ValueError):
        if text.endswith("Z"):
            return datetime.fromisoformat(text)
    with suppress(RuntimeError):  # seconds beyond all years
        time = parse_timestamp(text)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    raise ValueError("no time")


def parser_of(client: Any) -> Any:
    """What reads the client's answers, from now on with times by `instant`."""
    factory = client._endpoint._response_parser_factory  # a client has no other way to it
    factory.set_parser_defaults(timestamp_parser=instant)
    return factory.create_parser("rest-xml")


def signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signed(
    credentials: Any, key_of: Callable[[str, str, str], bytes], region: str, host: str, path: str, said: dict[str, str]
) -> dict[str, str]:
    """The headers of a PUT without a body or query, and a signature of all of them, by `signing_key` or what keeps it.

    botocore signs the same, and takes the loop a third of a copy for it.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {**said, "X-Amz-Date": now, "X-Amz-Content-SHA256": _OF_NO_BODY}
    if credentials.token:
        headers["X-Amz-Security-Token"] = credentials.token
    lines = sorted([("host", host), *((name.lower(), " ".join(value.split())) for name, value in headers.items())])
    names, scope = ";".join([name for name, _ in lines]), f"{now[:8]}/{region}/s3/aws4_request"
    request = "\n".join(["PUT", path, "", *(f"{name}:{value}" for name, value in lines), "", names, _OF_NO_BODY])
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.digest(key_of(credentials.secret_key, now[:8], region), text.encode(), "sha256").hex()
    proof = f"Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return headers | {"Authorization": f"AWS4-HMAC-SHA256 {proof}"}


def object_store(
    client: Any, session: Any, bucket: str, region: str | None, patience: Patience, grants: Mapping[str, str]
) -> "ObjectStore":
    """The obstore client of the bucket. Retries and time-outs of whole requests are the caller's.

    Args:
        grants: what each written object is encrypted with, as obstore names it.

    Raises:
        AccessDenied: the session has no credentials.
    """
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store as ObjectStore

    try:
        credentials = Boto3CredentialProvider(session, ttl=timedelta(minutes=5))
    except ValueError:
        raise AccessDenied(
            f"s3://{bucket}/: the Airflow connection gives no AWS credentials: fill in its key"
        ) from None
    endpoint, virtual = endpoint_of(client, bucket, region)
    return ObjectStore(
        bucket,
        credential_provider=credentials,
        endpoint=endpoint,
        region=signed_for(client, region),
        virtual_hosted_style_request=virtual,
        checksum_algorithm="SHA256",
        client_options=_options(client, endpoint, patience),
        retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
        **dict[str, Any](grants),
    )


def proxy_to(client: Any, address: str) -> Any:
    """The proxy by which boto3 reaches the address: the connection's (`config_kwargs`), else the environment's."""
    from botocore.httpsession import ProxyConfiguration
    from botocore.utils import get_environ_proxies

    own = client.meta.config.proxies
    return ProxyConfiguration(get_environ_proxies(address) if own is None else own).proxy_url_for(address)


def _options(client: Any, endpoint: str, patience: Patience) -> "ClientConfig":
    options: ClientConfig = {
        "allow_http": True,  # what the connection's endpoint_url says counts
        "connect_timeout": timedelta(seconds=patience.connect),
        "read_timeout": timedelta(seconds=patience.answer),
        "timeout": timedelta(seconds=patience.whole(16 << 20)),
        "user_agent": client.meta.config.user_agent,
    }
    if bundle := bundle_of(client):
        options["root_certificate"] = Path(bundle).read_bytes()
    if client.meta.config.proxies is not None:  # else obstore sees to the environment's by itself
        if (proxy := proxy_to(client, endpoint)) is None:
            options["proxy_excludes"] = urlsplit(endpoint).hostname or ""
        options["proxy_url"] = proxy or "http://unused.invalid"
    return options


def trusted_by(verify: str | bool) -> Any:
    """What trusts the authorities of `bundle_of`, else the machine's and boto3's."""
    from botocore.httpsession import get_cert_path

    return authorities(get_cert_path(verify), alone=isinstance(verify, str))


def signing_place(client: Any, region: str | None) -> tuple[str, str]:
    """Region and address for which requests about a bucket of that region are signed, links above all.

    Another server than AWS says its region too, and compares it with the signature, but has one address.
    """
    known, endpoint = client.meta.region_name or "us-east-1", str(client.meta.endpoint_url)
    endpoint = endpoint.replace(".aws-global.", f".{known}.")  # botocore's word in addresses of FIPS: no such host
    if not region or region == known:
        return known, endpoint
    if domain := amazon_domain(client):
        endpoint = endpoint.replace(known, region) if known in endpoint else f"https://s3.{region}.{domain}"
    return region, endpoint


def endpoint_of(client: Any, bucket: str, region: str | None) -> tuple[str, bool]:
    """Address for obstore, and whether it names the bucket in the host, as obstore then wants it and boto3 does."""
    from botocore.utils import is_valid_ipv4_endpoint_url

    parts = urlsplit(signing_place(client, region)[1].rstrip("/"))
    endpoint = parts._replace(netloc=parts.netloc.lower()).geturl()  # as it is signed
    style = (client.meta.config.s3 or {}).get("addressing_style", "auto")
    wanted = style == "virtual" or (style == "auto" and is_amazon(client) and ".vpce." not in endpoint)
    named = _IN_A_HOST.fullmatch(bucket) and ("." not in bucket or parts.scheme == "http")
    if wanted and named and not (is_valid_ipv4_endpoint_url(endpoint) or parts.netloc.startswith("[")):
        return endpoint.replace("://", f"://{bucket}.", 1), True
    return endpoint, False


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
