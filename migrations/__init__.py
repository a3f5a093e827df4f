"""Alembic migrations of the catalog."""

HEAD = "0009"
"""The newest revision (a test compares it with the scripts): opening a current catalog needs no Alembic."""
