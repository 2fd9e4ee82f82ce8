"""The Airflow DAG `data_export_audit`: whether what was delivered is still at the targets. No logic here."""

from data_export_airflow.dags.service_dags import build_audit_dag

dag = build_audit_dag()
