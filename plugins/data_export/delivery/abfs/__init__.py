"""Azure Blob Storage: `abfs://container@account/folder/`."""
