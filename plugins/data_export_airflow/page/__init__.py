"""The page "Data exports" in Airflow's navigation: a small API over Airflow's metadata database, and static files."""
