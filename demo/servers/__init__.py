"""Real servers from packages, each a context manager: PostgreSQL, Cloud Storage, S3, SFTP, SMTP."""
