"""What became of an export's windows, by the runs and receipts in Airflow's metadata database."""
