"""The Airflow DAG `data_export_check`: tries, from a worker, everything that an export needs. No logic here."""

from data_export_airflow.dags.service_dags import build_check_dag

dag = build_check_dag()
