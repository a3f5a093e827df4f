"""Architectures of encoders, as open_clip JSON."""
