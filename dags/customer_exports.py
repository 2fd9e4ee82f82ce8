"""One Airflow DAG per file in include/customers/. No logic here, and no error may escape: it would hide every DAG.

This file and its copies, customer_exports_02.py and so on, each hold a share of the DAGs, since Airflow takes too long
over a file of thousands. One more copy takes its share as soon as it is there.
"""

from data_export_airflow.dags.factory import customer_dags

globals().update(customer_dags(__file__))
