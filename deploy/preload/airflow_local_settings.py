"""Imports once, in the worker, what every task would otherwise import for itself, up to two seconds each time.

Airflow imports a module of this name wherever it finds one, so this folder is on the path of only those whose forks are
tasks: Celery's workers in docker-compose.yaml, and the demo's scheduler, of which LocalExecutor's workers are forks.

With `DATA_EXPORT_HEARTBEAT_FILE`, a Celery worker touches that file every two seconds as long as it runs and has its
broker: a look at the file is a health check that costs nothing.
"""

import ctypes
import functools
import inspect
import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import adbc_driver_postgresql
import boto3
import botocore.session
import jinja2
from botocore.hooks import EventAliaser

from data_export.config.platform import load_platform
from data_export.config.validate import load_values
from data_export.limits import limits_of
from data_export_airflow.dags.factory import build_dag

__all__ = ()  # nothing of this becomes one of Airflow's settings

for _name in (
    "adbc_driver_postgresql.dbapi",
    "airflow.dag_processing.bundles.local",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.google.cloud.hooks.gcs",
    "airflow.providers.microsoft.azure.hooks.wasb",
    "airflow.providers.postgres.hooks.postgres",
    "airflow.sdk.execution_time.cache",
    "airflow.sdk.execution_time.task_mapping",
    "airflow.sdk.execution_time.timeout",
    "airflow.sdk.observability.stats",
    "asyncssh",
    "azure.storage.blob.aio",
    "data_export.delivery.abfs.store",
    "data_export.delivery.gcs.store",
    "data_export.delivery.s3.store",
    "data_export.delivery.sftp.destination",
    "data_export_airflow.alerting.watch",
    "data_export_airflow.bundle",
    "data_export_airflow.execution.sealed",
    "google_crc32c",
    "jinja2.ext",
    "obstore.auth.boto3",
    "pyarrow.parquet",
):
    import_module(_name)

# A client of S3 would otherwise cost a task 0.4 CPU seconds: botocore parses its models anew for each session, and
# Airflow's hook asks `inspect` who calls it, which then looks up the file of every module that it has not met.
# Another 4 ms are the names of 130 events, which botocore translates anew for each session and for each client.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
_translated = functools.cache(functools.partial(EventAliaser._alias_event_name, EventAliaser(None)))
EventAliaser._alias_event_name = lambda _, name: _translated(name)
_nobody = {"aws_access_key_id": "-", "aws_secret_access_key": "-"}
with suppress(Exception):  # what is wrong with the machine's own settings of AWS is for the task to say
    boto3.Session(region_name="us-east-1").client("s3", **_nobody).close()
inspect.stack()

# What is read, compiled or loaded at the first use, by each task anew.
jinja2.Environment(autoescape=True).from_string("{{ task.label }}")
ctypes.CDLL(adbc_driver_postgresql._driver_path())
_CUSTOMER = {
    "site_id": ["00000000-0000-0000-0000-000000000000"],
    "interval": "daily",
    "start_date": "2025-01-01",
    "connector_type": "cloud_storage",
    "connector_config": {"storage_uri": "gs://bucket/", "export_images": True},
}


@functools.cache
def _rehearse() -> bool:
    """Makes the DAG of an export, which takes a process 5 ms longer the first time than later; whether it could."""
    with suppress(Exception):  # what is wrong with the settings is for the task to say
        limits = load_platform().limits
        export = load_values("rehearsal", _CUSTOMER)
        dag = build_dag("rehearsal", export, limits_of("rehearsal", export, limits))
        dag.check_cycle()
        dag.params.validate()
        return True
    return False


# Not now: most of that is what Python has found out about classes, and forgets with imports that are still to come.
os.register_at_fork(before=_rehearse)

if _file := os.environ.get("DATA_EXPORT_HEARTBEAT_FILE"):
    from celery.signals import heartbeat_sent

    heartbeat_sent.connect(lambda **_: Path(_file).touch(), weak=False)
