"""Checkpoints that others published, made into encoder folders of ours.

A file whose keys do not all find their place is refused with the list of them; code in it is never run.
"""
