"""Imports once, in the scheduler, what every task would otherwise import for itself, two seconds each time.

Airflow imports a module of this name wherever it finds one; the demo puts this folder on the path of the scheduler
alone. LocalExecutor's workers are forks of the scheduler, and tasks are forks of workers.
"""

from importlib import import_module

__all__ = ()  # nothing of this becomes one of Airflow's settings

for _name in (
    "adbc_driver_postgresql.dbapi",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.google.cloud.hooks.gcs",
    "airflow.providers.postgres.hooks.postgres",
    "asyncssh",
    "data_export_airflow.factory",
    "data_export_airflow.steps",
    "obstore",
    "pyarrow.parquet",
):
    import_module(_name)
