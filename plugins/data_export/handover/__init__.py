"""What a customer needs to receive and load the files: the hand-over sheet, and keys for SFTP servers."""
