"""Retrieval metrics of an encoder on held-out subjects."""
