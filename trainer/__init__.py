"""The trainer layer: trains, imports, evaluates and runs encoders. It imports no database.

This import is cheap; `trainer.runtime.encoder` imports torch.
"""
