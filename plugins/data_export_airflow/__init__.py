"""Everything that imports Airflow: DAG factory, thin tasks, connections to clients, command line."""
