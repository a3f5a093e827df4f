"""The trainer layer: trains, imports, evaluates and runs encoders. It imports no database.

This import is cheap, and so is that of `trainer.runtime.encoder`: torch is imported where it runs.
"""
