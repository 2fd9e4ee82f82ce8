"""Rights on a customer's bucket of Cloud Storage, asked for without writing an object."""

import threading

from data_export.check.results import CheckResult, Results
from data_export.delivery.gcs.errors import ROLES, explain
from data_export.delivery.gcs.store import GcsStore
from data_export.delivery.threads import run_blocking
from data_export.errors import AccessDenied

_NEEDED = ("storage.objects.create", "storage.objects.list", "storage.objects.get", "storage.buckets.get")
_REPLACE = "storage.objects.delete"


async def check_gcs(target: GcsStore) -> Results:
    """Each permission by `buckets.testIamPermissions`, which Cloud Storage answers for the identity that asks.

    Source: cloud.google.com/storage/docs/json_api/v1/buckets/testIamPermissions. The right to replace is no fault where
    it is missing: only changed content needs it.
    """
    bucket, results = target.root.bucket, Results()

    def ask(_: threading.Event) -> tuple[list[str], str]:
        found: list[str] = target.blocking_client().bucket(bucket).test_iam_permissions([*_NEEDED, _REPLACE])
        return found, target.account() or "the account of the Airflow connection"

    with results.step("target: bucket is there", bucket):
        try:
            granted, account = await run_blocking(ask)
        except Exception as error:
            raise explain(error, bucket, target.uri) from None
    if not results[-1].ok:
        return results
    for permission in _NEEDED:
        with results.step(f"target: {permission}", "granted"):
            if permission not in granted:
                raise AccessDenied(f"grant {ROLES[permission]} on bucket {bucket} to {account}")
    replace = "granted" if _REPLACE in granted else "not granted: changed content then needs if_exists keep or revision"
    results.append(CheckResult(f"target: {_REPLACE}", True, replace))
    return results
