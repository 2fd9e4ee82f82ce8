"""One Airflow DAG per file in include/customers/. No logic here, and no error may escape: it would hide every DAG."""

from data_export_airflow.factory import customer_dags

globals().update(customer_dags())
