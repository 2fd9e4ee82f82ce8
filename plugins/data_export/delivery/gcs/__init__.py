"""Cloud Storage, `gs://`."""
