"""Shows every problem of the customer files as one import error in the Airflow UI; makes no DAG."""

from data_export_airflow.dags.config_errors import sentinel_dags

globals().update(sentinel_dags())
