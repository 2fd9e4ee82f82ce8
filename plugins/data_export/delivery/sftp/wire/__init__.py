"""SFTP version 3 over a connection of asyncssh, in as few packets, system calls and tasks as it takes."""
