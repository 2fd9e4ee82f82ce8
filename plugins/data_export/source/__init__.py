"""Reads a site's window from the platform's database."""
