"""From Airflow connections to the clients of the core."""
