"""The embedded platform: every server that a real installation talks to, as processes and threads of one machine."""
