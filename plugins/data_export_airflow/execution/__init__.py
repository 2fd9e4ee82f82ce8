"""The steps of the core with clients from Airflow connections."""
