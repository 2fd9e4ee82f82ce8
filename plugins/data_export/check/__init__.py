"""Tries everything that an export will need, before its first window, and leaves nothing behind."""
