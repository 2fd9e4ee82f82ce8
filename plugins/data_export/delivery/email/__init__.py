"""A temporary link to the data, by mail."""
