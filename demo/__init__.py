"""The embedded platform: every server that a real installation talks to, as ordinary processes and threads of one machine."""
