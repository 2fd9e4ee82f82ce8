"""One Airflow DAG per file in include/customers/. No logic here, and no error may escape: it would hide every DAG.

It stands alone where Airflow serves this folder itself. `CustomerFilesBundle` puts its own DAG files in its place,
which share the exports, since Airflow takes too long over a file of thousands.
"""

from data_export_airflow.dags.factory import customer_dags

globals().update(customer_dags(__file__))
