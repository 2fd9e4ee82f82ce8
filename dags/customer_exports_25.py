"""Another share of the Airflow DAGs of include/customers/: a copy of customer_exports.py, which says more."""

from data_export_airflow.dags.factory import customer_dags

globals().update(customer_dags(__file__))
