"""The DAGs: one per customer file, the check, the watch, and the one that reports broken files."""
