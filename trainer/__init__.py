"""The trainer room: learns and loads encoders, and measures them. It knows no database.

Importing it is cheap; `trainer.runtime.encoder` brings torch.
"""
