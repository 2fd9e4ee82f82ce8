"""Connections to one server: how each is watched, how many there are, and how much is asked of them at once."""
