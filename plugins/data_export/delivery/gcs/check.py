"""Rights on a customer's bucket of Cloud Storage, asked for without writing an object."""

import secrets
import threading
from contextlib import suppress

from data_export.check.results import CheckResult, Results
from data_export.check.shared_steps import Step
from data_export.delivery.gcs.errors import ROLES, explain
from data_export.delivery.gcs.store import GcsStore
from data_export.delivery.threads import run_blocking
from data_export.errors import AccessDenied

_BUCKET = Step("bucket is there", "finds the bucket")
_NEEDED = (
    Step("storage.objects.create", "asks whether we may write data files and images"),
    Step("storage.objects.list", "asks whether we may find what is already there"),
    Step("storage.objects.get", "asks whether we may compare the size and checksum of what was written"),
    Step("storage.buckets.get", "asks whether we may tell a wrong name of the bucket from a missing right"),
)
_REPLACE = Step("storage.objects.delete", "asks whether we may replace a file whose content changed; not required")
#: What the sheet for the customer announces; the rights that it asks for are those that are needed.
STEPS = (_BUCKET, *_NEEDED, _REPLACE)
RIGHTS = tuple(step.name for step in _NEEDED)


async def check_gcs(target: GcsStore) -> Results:
    """Each permission by `buckets.testIamPermissions`, which Cloud Storage answers for the identity that asks.

    Source: cloud.google.com/storage/docs/json_api/v1/buckets/testIamPermissions. It tells of the bucket as a whole, not
    of what a condition or a managed folder grants: that is tried. The right to replace is no fault where it is missing:
    only changed content needs it.
    """
    bucket, results = target.root.bucket, Results()

    def ask(_: threading.Event) -> tuple[list[str], str]:
        asked = [*RIGHTS, _REPLACE.name]
        found: list[str] = target.blocking_client().bucket(bucket).test_iam_permissions(asked)
        return found, target.account() or "the account of the Airflow connection"

    with results.step(_BUCKET.of("target"), bucket):
        try:
            granted, account = await run_blocking(ask)
        except Exception as error:
            raise explain(error, bucket, target.uri) from None
    if not results[-1].ok:
        return results
    for step in _NEEDED:
        everywhere = step.name in granted
        with results.step(step.of("target"), "granted" if everywhere else f"granted below {target.uri}"):
            if not (everywhere or await _is_granted_below(target, step.name)):
                raise AccessDenied(f"grant {ROLES[step.name]} on bucket {bucket} to {account}")
    lacking = "not granted on the whole bucket: unless it is below, changed content needs if_exists keep or revision"
    replace = "granted" if _REPLACE.name in granted else lacking
    results.append(CheckResult(_REPLACE.of("target"), True, replace))
    return results


async def _is_granted_below(target: GcsStore, permission: str) -> bool:
    """Tries it with a name that is not there; nothing is written or shown."""
    key = f"data-export-check-{secrets.token_hex(8)}"
    try:
        match permission:
            case "storage.objects.create":
                await run_blocking(lambda _: _begin_to_write(target, key))
            case "storage.objects.list":
                await anext(target.list(key), None)
            case "storage.objects.get":
                await target.stat(key)
            case _:
                return False
    except AccessDenied:
        return False
    return True


def _begin_to_write(target: GcsStore, key: str) -> None:
    client, bucket = target.blocking_client(), target.root.bucket
    try:
        upload = client.bucket(bucket).blob(target.root.name(key)).create_resumable_upload_session()
    except Exception as error:
        raise explain(error, bucket, target.uri) from None
    with suppress(Exception):  # Cloud Storage forgets it by itself after a week
        client._http.delete(upload, timeout=10)
