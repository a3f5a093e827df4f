"""Importers: published checkpoints to encoder folders.

A file with keys that do not fit is refused and the keys are listed; code in a file is never run.
"""
