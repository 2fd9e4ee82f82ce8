"""Rights on a customer's bucket of Cloud Storage, asked for without writing an object."""

import threading

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

    Source: cloud.google.com/storage/docs/json_api/v1/buckets/testIamPermissions. The right to replace is no fault where
    it is missing: only changed content needs it.
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
        with results.step(step.of("target"), "granted"):
            if step.name not in granted:
                raise AccessDenied(f"grant {ROLES[step.name]} on bucket {bucket} to {account}")
    replace = (
        "granted" if _REPLACE.name in granted else "not granted: changed content then needs if_exists keep or revision"
    )
    results.append(CheckResult(_REPLACE.of("target"), True, replace))
    return results
