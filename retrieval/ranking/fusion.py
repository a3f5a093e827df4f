"""From ranked items of several kinds to ranked studies: grouping and fusion.

Scores of different kinds (picture to picture, picture to sentence) live on different scales, because the
two towers leave a gap between the modalities: they are never added. What is fused is the rank, by
reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009). The arithmetic is the same over every
vector store.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Literal

from corpus.redaction import redacted

ItemKind = Literal["image", "report", "sentence", "terms", "region"]
"""`terms`: a report by the words it affirms; `region`: a picture by the patches alike to a box."""

RANK_CONSTANT = 20
"""How flat the fusion is. The paper's 60 is for lists of a thousand documents, of which all systems rank
all. Here a study without a report is in no report list, and with 60 two mediocre ranks would beat a first
place; with 20 a study that is first in one list of two stays above one that is 23rd in both."""


@redacted
@dataclass(frozen=True, slots=True)
class Found:
    """An item that a store returned for one query vector.

    `item_id` and `study_id` are whatever names them: in a search, point id and keyed hash. A sentence is in
    as many studies as hold it. `score` is the cosine in [-1, 1], of terms their BM25.
    """

    item_id: str
    study_id: str
    kind: ItemKind
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """One list of items for one query vector, in any order. `name` tells it from the others.

    `part`: the part of the query that it answers to, for the reader.
    """

    name: str
    items: tuple[Found, ...]
    weight: float = 1.0
    part: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """What one list gave a study: `share` of its score, at `place` (from 1).

    `items`: what the list holds of the study, best first; the first is what the share was given for.
    """

    part: str
    share: float
    place: int
    items: tuple[Found, ...]

    @property
    def item_id(self) -> str:
        """The item through which it was given."""
        return self.items[0].item_id


@redacted
@dataclass(frozen=True, slots=True)
class RankedStudy:
    """A study with what brought it here. `score`: higher is better, within one answer.

    `shares`: list → what it gave; they add up to the score.
    """

    study_id: str
    score: float
    shares: Mapping[str, Share]

    @property
    def evidence(self) -> tuple[Found, ...]:
        """The study's items, each once: by what their list gave the study, then by score.

        Put in order when it is asked for: of hundreds of candidates a few are shown.
        """
        brought = [(told.share, item) for told in self.shares.values() for item in told.items]
        ordered = sorted(brought, key=lambda pair: (-pair[0], -pair[1].score, pair[1].item_id))
        seen: dict[str, Found] = {}
        for _, item in ordered:
            seen.setdefault(item.item_id, item)
        return tuple(seen.values())


def group(items: Iterable[Found]) -> dict[str, list[Found]]:
    """Gather items by study: studies by their best item, and in each study the best item first.

    An item that is listed twice counts once, with its better score. Ties are broken by id, so that an
    answer never depends on the order in which a store happened to return equals.
    """
    best: dict[tuple[str, str], Found] = {}
    for item in items:
        known = best.get((item.study_id, item.item_id))
        if known is None or item.score > known.score:
            best[item.study_id, item.item_id] = item
    studies: dict[str, list[Found]] = {}
    for item in sorted(best.values(), key=lambda found: (-found.score, found.study_id, found.item_id)):
        studies.setdefault(item.study_id, []).append(item)
    return studies


def rank_studies(rankings: Sequence[Ranking], k: int, *, constant: int = RANK_CONSTANT) -> list[RankedStudy]:
    """Return the k best studies.

    Within one ranking a study stands at the place of its best item, counted in studies: 500 sentences of
    one study take one place, and all studies that hold the same sentence share theirs. With one ranking the
    score is the cosine of that item. With several it is Σ weight·(1 + constant)/(place + constant) / Σ weight
    over the rankings that hold anything: 1.0 is first place in every list, and a list in which the study is
    missing adds nothing.

    Args:
        rankings: the lists; an empty one is as if it were not there.
        k: how many studies, at least 1.
        constant: of reciprocal rank fusion.
    """
    filled = [(ranking, group(ranking.items)) for ranking in rankings if ranking.items]
    if not filled:
        return []
    if len(filled) == 1:
        ranking, studies = filled[0]
        name, part = ranking.name, ranking.part
        return [
            RankedStudy(study, items[0].score, {name: Share(part, items[0].score, place, tuple(items))})
            for (study, items), place in list(zip(studies.items(), _places(studies), strict=True))[:k]
        ]
    whole = sum(ranking.weight for ranking, _ in filled)
    shares: dict[str, dict[str, Share]] = {}
    for ranking, studies in filled:
        for (study, items), place in zip(studies.items(), _places(studies), strict=True):
            share = ranking.weight * (1 + constant) / (place + constant) / whole
            told = Share(ranking.part, share, place, tuple(items))
            shares.setdefault(study, {})[ranking.name] = told
    # fsum: exact, so that the answer does not depend on the order of the rankings
    scores = {study: fsum(told.share for told in of.values()) for study, of in shares.items()}
    order = sorted(scores, key=lambda study: (-scores[study], study))[:k]
    return [RankedStudy(study, scores[study], shares[study]) for study in order]


def _places(studies: Mapping[str, Sequence[Found]]) -> list[int]:
    """The place of each study: one more than there are studies with a better item. Equals share a place."""
    scores = [items[0].score for items in studies.values()]
    places = list(range(1, len(scores) + 1))
    for at in range(1, len(scores)):
        if scores[at] == scores[at - 1]:
            places[at] = places[at - 1]
    return places
