"""Similarity: earlier radiology cases that look or read like the one in front of you.

    import similarity as sim

    encoder = sim.load_encoder("runs/mine")
    with sim.Index.open("home", encoder=encoder) as index:
        index.add("dicom:export", reports="reports.csv")
        answer = index.search("small right pleural effusion", k=5, where="sex=F and age>=50")
        found = index.localize(answer[0], "pleural effusion")
        report = index.draft("image.dcm")

Names are imported when they are first used (PEP 562), so that `import similarity` imports no torch. Research
software, not a medical device.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpus.errors import SimilarityError
    from corpus.geometry import Box
    from corpus.sources import open_source
    from indexer.catalog.studies import Case
    from indexer.ingest.added import Added
    from retrieval.answer import Answer, Evidence, Hit
    from retrieval.draft.text import Draft
    from retrieval.localize.answer import Localization
    from retrieval.query.query import Query
    from similarity.encoders import load_encoder
    from similarity.images import read_image
    from similarity.index import Index, draft
    from similarity.localization import localize
    from trainer.runtime.encoder import Encoder

__all__ = [
    "Added",
    "Answer",
    "Box",
    "Case",
    "Draft",
    "Encoder",
    "Evidence",
    "Hit",
    "Index",
    "Localization",
    "Query",
    "SimilarityError",
    "__version__",
    "draft",
    "load_encoder",
    "localize",
    "open_source",
    "read_image",
]

_MODULES = {
    "Added": "indexer.ingest.pipeline",
    "Answer": "retrieval.answer",
    "Box": "corpus.geometry",
    "Case": "indexer.catalog.studies",
    "Draft": "retrieval.draft.text",
    "Encoder": "trainer.runtime.encoder",
    "Evidence": "retrieval.answer",
    "Hit": "retrieval.answer",
    "Index": "similarity.index",
    "Localization": "retrieval.localize.answer",
    "Query": "retrieval.query.query",
    "SimilarityError": "corpus.errors",
    "draft": "similarity.index",
    "load_encoder": "similarity.encoders",
    "localize": "similarity.localization",
    "open_source": "corpus.sources",
    "read_image": "similarity.images",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("similarity-engine")
    if name not in _MODULES:
        raise AttributeError(f"module 'similarity' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
