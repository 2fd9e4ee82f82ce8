"""`s3://`: how its client is made from an Airflow connection."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from data_export.check.results import CheckResult
from data_export.config.fields import Plain, quoted
from data_export.delivery.base import Store
from data_export.delivery.connector import Connection, Connections, Scheme, in_a_cloud, require_type
from data_export.delivery.handed_over import Handover
from data_export.delivery.retry import authorities
from data_export.errors import ConfigError, CredentialsUnavailable

_HOOK = "airflow.providers.amazon.aws.hooks.s3.S3Hook"
_SETTINGS = (
    "correct its key, and region_name, endpoint_url, profile_name, role, verify and config_kwargs in its extra, or "
    "AWS_CA_BUNDLE and REQUESTS_CA_BUNDLE of the environment"
)

_WITH_KMS = "sse: aws:kms or aws:kms:dsse"
#: Of `config_kwargs`, what boto3 alone would heed: it moves the big files, other libraries all the rest.
_REFUSED = {
    "client_cert": "objects are moved without a client certificate: remove it, and name as endpoint_url a proxy of "
    "your own that shows it to the server",
    "proxies_config": "objects are moved by proxies without settings of their own: remove it, and add the proxy's "
    "authority to the files that SSL_CERT_FILE and REQUESTS_CA_BUNDLE name on the workers",
}


class S3Keys(BaseModel):
    """The keys that only `s3://` takes: what a bucket's policy may demand of each object that is written."""

    sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        default=None, description="s3:// only: server-side encryption that each request names"
    )
    sse_kms_key_id: Plain | None = Field(
        default=None, min_length=1, description=f"s3:// only: id or ARN of the KMS key, with {_WITH_KMS}"
    )
    acl: Literal["bucket-owner-full-control", "bucket-owner-read", "private"] | None = Field(
        default=None, description="s3:// only: canned ACL of each object, where the bucket has ACLs"
    )

    @field_validator("sse_kms_key_id")
    @classmethod
    def _with_kms(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and not str(info.data.get("sse") or "").startswith("aws:kms"):
            raise ValueError(f"works with {_WITH_KMS} only: set one, or remove the key's id")
        return value


def check_aws(found: Connection) -> None:
    """
    Raises:
        ConfigError: half a key, or certificates are not verified, or something that boto3 alone would heed.
    """
    name, key = f"Airflow connection {found.conn_id!r}", (found.login or "", found.password or "")
    if any(key) and not all(part and part == part.strip() for part in key):
        raise ConfigError(
            f"{name} has half a key, or blanks around it: its login is the id of an access key, its password the secret"
        )
    verify = found.extra_dejson.get("verify")
    if verify in (False, "false", "False"):
        raise ConfigError(f"{name} has verify: false: certificates are always verified, remove it")
    _refuse_ignored(name, found.extra_dejson.get("config_kwargs"))


def _refuse_ignored(name: str, settings: Any) -> None:
    if not isinstance(settings, dict):  # boto3 says what is wrong with that
        return
    for setting, why in _REFUSED.items():
        if settings.get(setting):
            raise ConfigError(f"{name} has {setting} in config_kwargs, but {why}")
    version = settings.get("signature_version") or "s3v4"
    if version not in ("s3v4", "v4"):
        raise ConfigError(
            f"{name} has signature_version {quoted(version)} in config_kwargs, but objects are moved with version 4: "
            "remove it, and have the server take version 4"
        )


def _open(uri: str, conn_id: str, connections: Connections, own: Mapping[str, Any]) -> Store:
    from botocore.exceptions import (
        InvalidConfigError,
        InvalidS3AddressingStyleError,
        NoRegionError,
        ParamValidationError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    from data_export.delivery.s3.dialect import Grants
    from data_export.delivery.s3.store import S3Store

    read = connections.read(conn_id)
    require_type(read, "aws", "s3")
    check_aws(read)
    refused = (
        InvalidConfigError,
        InvalidS3AddressingStyleError,
        NoRegionError,
        ParamValidationError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    hook: Any = None

    def session() -> Any:
        nonlocal hook
        with connections.settings_of(conn_id, _SETTINGS, *refused):
            hook = connections.hook(_HOOK, aws_conn_id=conn_id)
            found = hook.get_session()
        _require_credentials(conn_id, found)
        hook.get_session = lambda **_: found  # the client would get one of its own, which costs as much as itself
        return found

    def client() -> Any:
        """Its address may also come from the environment (AWS_ENDPOINT_URL_S3) or from a profile of the machine."""
        with connections.settings_of(conn_id, _SETTINGS, *refused):
            found = hook.get_conn()
        connections.require_https(conn_id, "endpoint_url", found.meta.endpoint_url)
        _require_authorities(conn_id, found)
        return found

    return S3Store(uri, client=client, session=session, grants=Grants.of(own))


def _require_authorities(conn_id: str, client: Any) -> None:
    """
    Raises:
        ConfigError: the file of authorities that boto3 found cannot be read, or holds none.
    """
    from data_export.delivery.s3.dialect import bundle_of

    if (bundle := bundle_of(client)) is None:
        return
    try:
        held = Path(bundle).read_bytes()  # boto3 takes no folder
        authorities(bundle, alone=True)
        if b"-----BEGIN CERTIFICATE-----" in held:
            return
        why = "it has none of BEGIN CERTIFICATE"  # OpenSSL alone reads its own TRUSTED CERTIFICATE
    except OSError as error:
        why = type(error).__name__
    raise ConfigError(
        f"Airflow connection {conn_id!r}: {bundle} (its verify, AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, or ca_bundle of "
        f"its profile) holds no certificates ({why}): correct it, and on all workers"
    )


def _require_credentials(conn_id: str, session: Any) -> None:
    """
    Raises:
        ConfigError: neither the connection nor the machine has any.
        CredentialsUnavailable: the machine may have some; a metadata server that is slow looks like none.
    """
    from botocore.exceptions import CredentialRetrievalError, MetadataRetrievalError

    fault = "the metadata server gives none"
    waits = in_a_cloud() and os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true"
    try:
        if session.get_credentials() is not None:
            return
    except (CredentialRetrievalError, MetadataRetrievalError) as error:
        fault, waits = type(error).__name__, True
    if waits:
        raise CredentialsUnavailable(
            f"Airflow connection {conn_id!r}: the machine's AWS credentials cannot be read ({fault}): if no try finds "
            "them, give the machine a role, or the connection a login (id of an access key) and a password (the secret)"
        )
    raise ConfigError(
        f"Airflow connection {conn_id!r} gives no AWS credentials, and the workers' machine has none: fill in "
        "its login (the id of an access key) and password (the secret)"
    )


async def _check(target: Any, folders: Sequence[str]) -> list[CheckResult]:
    from data_export.delivery.s3.check import check_s3

    return await check_s3(target, folders)  # what `_open` made


def _handover(uri: str, own: Mapping[str, Any]) -> Handover:
    from data_export.check.shared_steps import OPENS
    from data_export.delivery.s3.check import OTHER_STEPS, STEPS

    return Handover(
        (OPENS, *STEPS, *(step._replace(tries=f"only if it is not Amazon's: {step.tries}") for step in OTHER_STEPS)),
        Path(__file__).parent / "templates" / "handover.md",
        own,
        # Else a corrected file of the same size is not copied again.
        fetch=f"aws s3 sync {shlex.quote(uri)} {{folder}} --exclude '*/inputs/*' --exact-timestamps",
        placeholder="OUR_ROLE_OR_USER",
    )


SCHEME = Scheme(
    "s3",
    _open,
    _check,
    _handover,
    own_keys={
        "sse": "have the bucket encrypt by default",
        "sse_kms_key_id": "have the bucket encrypt by default",
        "acl": "grant its owner the rights on the bucket",
    },
    connection_names_server=True,
    console="https://s3.console.aws.amazon.com/s3/object/{bucket}?prefix={key}",
    also_called=("aws", "aws_s3", "amazon_s3", "minio"),
)
