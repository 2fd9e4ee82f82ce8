"""The Airflow DAG `data_export_watch`: reports windows that were not delivered in time. No logic here."""

from data_export_airflow.dags.service_dags import build_watch_dag

dag = build_watch_dag()
