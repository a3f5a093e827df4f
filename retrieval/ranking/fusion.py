"""Fusion: from rankings of items of several kinds to one ranking of studies.

Scores of different kinds (image to image, image to sentence) are on different scales, because the two towers
leave a gap between the modalities: they are never added. Ranks are fused instead, by reciprocal rank fusion
(Cormack, Clarke and Büttcher, SIGIR 2009). The arithmetic is the same over every vector store.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Literal

from corpus.redaction import redacted

RankingKind = Literal["image", "report", "sentence", "terms", "region"]
"""`terms`: reports by the words they affirm; `region`: images by patches similar to a region."""

RANK_CONSTANT = 20
"""How flat the fusion is. The paper's 60 is for lists of a thousand documents, of which all systems rank
all. Here a study without a report is in no report list, and with 60 two mediocre ranks would beat a first
rank; with 20 a study that is first in one list of two stays above one that is 23rd in both."""


@redacted
@dataclass(frozen=True, slots=True)
class FoundItem:
    """An item that a store returned for one query vector; a sentence is found once for each of its studies.

    Attributes:
        item_id: any name of the item; in a search its point.
        study_id: any name of its study; in a search the study's key in the store.
        kind: of the item.
        score: the cosine in [-1, 1]; of terms their BM25.
    """

    item_id: str
    study_id: str
    kind: RankingKind
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The items found for one query vector, in any order.

    Attributes:
        name: distinguishes it from the other rankings.
        items: the items.
        weight: in the fusion.
        part: the part of the query that it answers, for the reader.
    """

    name: str
    items: tuple[FoundItem, ...]
    weight: float = 1.0
    part: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """What one ranking contributed to a study's score.

    Attributes:
        part: the part of the query that the ranking answers.
        share: the contribution.
        rank: of the study in the ranking, from 1.
        items: the study's items in the ranking, best first; the first one decided the rank.
    """

    part: str
    share: float
    rank: int
    items: tuple[FoundItem, ...]

    @property
    def item_id(self) -> str:
        """The item that decided the rank."""
        return self.items[0].item_id


@redacted
@dataclass(frozen=True, slots=True)
class RankedStudy:
    """A study as fusion ranks it.

    Attributes:
        study_id: the study.
        score: higher is better, within one answer.
        shares: ranking → its contribution; they add up to the score.
    """

    study_id: str
    score: float
    shares: Mapping[str, Share]

    @property
    def evidence(self) -> tuple[FoundItem, ...]:
        """The study's items, each once: by what their ranking contributed, then by score.

        Sorted on request: of hundreds of candidates few are shown.
        """
        contributed = [(share.share, item) for share in self.shares.values() for item in share.items]
        ordered = sorted(contributed, key=lambda pair: (-pair[0], -pair[1].score, pair[1].item_id))
        seen: dict[str, FoundItem] = {}
        for _, item in ordered:
            seen.setdefault(item.item_id, item)
        return tuple(seen.values())


def group_by_study(items: Iterable[FoundItem]) -> dict[str, list[FoundItem]]:
    """Group items by study: studies by their best item, and in each study the best item first.

    An item that is listed twice counts once, with its better score. Ties are broken by id, so that an
    answer never depends on the order in which a store happened to return equals.
    """
    best: dict[tuple[str, str], FoundItem] = {}
    for item in items:
        known = best.get((item.study_id, item.item_id))
        if known is None or item.score > known.score:
            best[item.study_id, item.item_id] = item
    studies: dict[str, list[FoundItem]] = {}
    for item in sorted(best.values(), key=lambda item: (-item.score, item.study_id, item.item_id)):
        studies.setdefault(item.study_id, []).append(item)
    return studies


def fuse_rankings(
    rankings: Sequence[Ranking], k: int | None = None, *, constant: int = RANK_CONSTANT
) -> list[RankedStudy]:
    """Return the studies of all rankings, best first.

    Within one ranking a study has the rank of its best item, counted in studies: 500 sentences of one study
    take one rank, and all studies that have the same sentence share theirs. With one ranking the score is the
    cosine of that item. With several it is Σ weight·(1 + constant)/(rank + constant) / Σ weight over the
    rankings that hold anything: 1.0 is rank 1 in every ranking, and a ranking without the study adds nothing.

    Args:
        rankings: the rankings; an empty one counts as absent.
        k: how many studies, at least 1; None: all.
        constant: of reciprocal rank fusion.
    """
    filled = [(ranking, group_by_study(ranking.items)) for ranking in rankings if ranking.items]
    if not filled:
        return []
    if len(filled) == 1:
        ranking, studies = filled[0]
        name, part = ranking.name, ranking.part
        return [
            RankedStudy(study, items[0].score, {name: Share(part, items[0].score, rank, tuple(items))})
            for (study, items), rank in list(zip(studies.items(), _ranks(studies), strict=True))[:k]
        ]
    total = sum(ranking.weight for ranking, _ in filled)
    shares: dict[str, dict[str, Share]] = {}
    for ranking, studies in filled:
        for (study, items), rank in zip(studies.items(), _ranks(studies), strict=True):
            score = ranking.weight * (1 + constant) / (rank + constant) / total
            shares.setdefault(study, {})[ranking.name] = Share(ranking.part, score, rank, tuple(items))
    # fsum: exact, so that the answer does not depend on the order of the rankings
    scores = {
        study: fsum(share.share for share in by_ranking.values()) for study, by_ranking in shares.items()
    }
    order = sorted(scores, key=lambda study: (-scores[study], study))[:k]
    return [RankedStudy(study, scores[study], shares[study]) for study in order]


def _ranks(studies: Mapping[str, Sequence[FoundItem]]) -> list[int]:
    """The rank of each study: one more than there are studies with a better item. Equals share a rank."""
    scores = [items[0].score for items in studies.values()]
    ranks = list(range(1, len(scores) + 1))
    for at in range(1, len(scores)):
        if scores[at] == scores[at - 1]:
            ranks[at] = ranks[at - 1]
    return ranks
