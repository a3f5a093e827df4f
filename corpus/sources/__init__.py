"""Readers of the sets a corpus can come from: `open_source("openi:/data/openi")`."""

from corpus.sources.opening import KINDS, open_source
from corpus.sources.parts import ADMITTED

__all__ = ["ADMITTED", "KINDS", "open_source"]
