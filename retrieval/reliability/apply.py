"""When an answer says that it has nothing to say, and what it promises otherwise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from corpus.findings import Statuses
from indexer.index import Index
from retrieval.query.image import Picture
from retrieval.query.query import Query
from retrieval.reliability.conformal import LEVEL, load_guarantee
from retrieval.reliability.ood import REFUSAL, load_gate

if TYPE_CHECKING:
    from trainer.runtime.encoder import Encoder

GROWN = 0.1
"""An index that has grown or shrunk by a larger share since it was calibrated promises nothing."""


def refusal(index: Index, encoder: "Encoder", picture: Picture) -> str | None:
    """Why a picture is no query of this index, in a sentence; None where it is, or nothing is known."""
    gate = load_gate(index)
    return REFUSAL if gate is not None and gate.refuses(encoder, picture.pixels) else None


def promise(index: Index, query: Query, hits: Sequence[Statuses]) -> tuple[bool | None, str | None]:
    """What the hits of a query are promised to share: whether to abstain, and the sentence for the reader.

    Promises hold for what was calibrated: a picture alone, searched for without a filter, in an index that is
    still as large. For anything else, and without calibration, (None, None).

    Args:
        index: the index that was searched.
        query: what was asked.
        hits: the findings of every hit, best first.
    """
    if not hits or not _as_calibrated(query) or not _as_large(index):
        return None, None
    guarantee = load_guarantee(index)
    promised = None if guarantee is None else guarantee.promised(query.target, hits)
    if promised is None:
        return None, None
    if promised == 0:
        return True, (
            f"Nothing like this here: not one of these {len(hits)} can be promised to share the picture's "
            f"main finding ({LEVEL:.0%} of promises are kept)."
        )
    return False, f"At least {promised} of these {len(hits)} share the picture's main finding ({LEVEL:.0%})."


def _as_calibrated(query: Query) -> bool:
    more = (query.text, query.case, query.where, query.region, query.finding)
    return query.image is not None and not any(more) and not (query.like or query.dislike or query.diversify)


def _as_large(index: Index) -> bool:
    films = index.calibrations.films(index.active_version.fingerprint, "guarantee")
    return films is not None and abs(films[1] - films[0]) <= GROWN * films[0]
