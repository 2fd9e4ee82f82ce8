"""The Airflow DAG `data_export_maintenance`: removes what nobody needs any more. No logic here."""

from data_export_airflow.dags.service_dags import build_maintenance_dag

dag = build_maintenance_dag()
