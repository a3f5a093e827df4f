"""Sparse vectors of words for BM25, made here for both stores by the engine's own model.

Only what a report affirms is counted (`corpus.language.labeler`): BM25 would rank "no effusion" first for
"effusion". Words are stemmed as English and stop words left out. The store counts document frequencies.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from corpus.language.detection import lexicon_of
from corpus.language.labeler import LABELER_VERSION
from indexer.ingest.payload import digest
from indexer.vectors.store import Terms

if TYPE_CHECKING:
    from qdrant_edge import Bm25

AVERAGE_WORDS = 14.0
"""Average length of a report without stop words, measured on what Open-i reports affirm. One number for every
index, so that a report's weights do not depend on the others and are never recomputed."""

_VERSION = f"terms 1, labeler {LABELER_VERSION}, {AVERAGE_WORDS}"


def terms_hash(content: str, language: str | None) -> str:
    """Return the hash of what decides a report's words: its content, and the rules and lexicon of its
    language."""
    lexicon = lexicon_of(language)
    read_by = "unread" if lexicon is None else lexicon.version
    return digest([content, _VERSION, read_by] if read_by else [content, _VERSION])


def document_terms(text: str) -> Terms:
    """Return the words of a text with their BM25 weights."""
    made = _model().embed_document(text)
    return Terms(tuple(made.indices), tuple(made.values))


def query_terms(text: str) -> Terms:
    """Return the words of a query, each with a weight of 1."""
    made = _model().embed_query(text)
    return Terms(tuple(made.indices), tuple(float(weight) for weight in made.values))


@lru_cache(maxsize=1)
def _model() -> "Bm25":
    from qdrant_edge import Bm25, Bm25Config  # late: a server's client does not need the engine otherwise

    return Bm25(Bm25Config(avg_len=AVERAGE_WORDS))
