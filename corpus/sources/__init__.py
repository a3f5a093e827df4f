"""Readers of the sets a corpus can come from."""
