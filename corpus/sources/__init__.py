"""Sources: readers of published sets, DICOM folders and manifests. `open_source("openi:/data/openi")`."""

from corpus.sources.common import ADMITTED
from corpus.sources.registry import KINDS, open_source

__all__ = ["ADMITTED", "KINDS", "open_source"]
