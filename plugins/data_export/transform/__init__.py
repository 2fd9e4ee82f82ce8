"""Turns a raw snapshot into the delivered file."""
