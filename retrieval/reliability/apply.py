"""Applying what was fitted: the out-of-distribution detector to a query, the guarantee to its hits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from indexer.index import Index
from retrieval.answer import Hit
from retrieval.query.query import Query
from retrieval.reliability.conformal import LEVEL, load_guarantee
from retrieval.reliability.ood import REFUSAL, load_detector

if TYPE_CHECKING:
    from retrieval.query.image import QueryImage
    from trainer.runtime.encoder import Encoder

MOST_GROWTH = 0.1
"""An index that has grown or shrunk by a larger share since it was calibrated makes no promise."""


def apply_detector(index: Index, encoder: "Encoder", image: "QueryImage") -> str | None:
    """Return why an image is out of distribution, in a sentence; None where it is not, or is unknown."""
    detector = load_detector(index)
    return REFUSAL if detector is not None and detector.refuses(encoder, image.pixels) else None


def apply_guarantee(index: Index, query: Query, hits: Sequence[Hit]) -> tuple[bool | None, str | None]:
    """Return whether an answer abstains, and the sentence that says what is promised of its hits.

    The guarantee holds for what it was fitted on: an image alone, searched without a filter, in an index of
    about the same size. For any other query, and without calibration, the result is (None, None).

    Args:
        index: the index that was searched.
        query: the query.
        hits: the hits, best first.
    """
    if not hits or not _is_covered(query) or not _has_size_of_calibration(index):
        return None, None
    guarantee = load_guarantee(index)
    findings = [hit.case.findings for hit in hits]
    promised = None if guarantee is None else guarantee.promised(query.target, findings)
    if promised is None:
        return None, None
    if promised == 0:
        return True, (
            f"Nothing like this here: not one of these {len(hits)} can be promised to share the image's "
            f"main finding ({LEVEL:.0%} of promises are kept)."
        )
    return False, f"At least {promised} of these {len(hits)} share the image's main finding ({LEVEL:.0%})."


def _is_covered(query: Query) -> bool:
    other_parts = (query.text, query.case, query.where, query.region, query.finding)
    examples = query.like or query.dislike
    return query.image is not None and not any(other_parts) and not (examples or query.diversify)


def _has_size_of_calibration(index: Index) -> bool:
    counts = index.calibrations.images(index.active_version.fingerprint, "guarantee")
    return counts is not None and abs(counts[1] - counts[0]) <= MOST_GROWTH * counts[0]
