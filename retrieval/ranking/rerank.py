"""The pair score: how well one study answers the query, once it is a candidate.

Fusion knows places in lists; the pair score also knows what the study's findings say to what was asked. A
study that shows what a wish denies is no answer, however near its vectors lie.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corpus.redaction import redacted
from indexer.ingest.payload import listed
from indexer.vectors.filters import PayloadValue
from retrieval.query.intent import Asked
from retrieval.ranking.agreement import Agreement, agreement, descendants
from retrieval.ranking.fusion import RankedStudy

WISH_WEIGHT = 2.0
"""Of the agreement with what a phrase asks for, beside 1 for the fused lists."""
LIKENESS_WEIGHT = 0.5
"""Of the agreement with the findings of a case or report to be like."""


@redacted
@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate with its pair score. `agreement` is None where no findings were asked for.

    `lists` and `findings` are what the fused lists and the findings gave: they add up to `score`.
    """

    study: RankedStudy
    score: float
    agreement: Agreement | None = None
    lists: float = 1.0

    @property
    def findings(self) -> float:
        """What the findings gave to the score."""
        return self.score - self.lists * self.study.score

    @property
    def study_id(self) -> str:
        """The study's name, as in the lists."""
        return self.study.study_id


def judge(
    ranked: Sequence[RankedStudy], asked: Asked, payloads: Mapping[str, Mapping[str, PayloadValue]]
) -> list[Judged]:
    """Order candidates by their pair score: (fused + weight · agreement) / (1 + weight).

    Args:
        ranked: the fused candidates, in any order.
        asked: the findings asked for; with none the order is that of fusion.
        payloads: study → what stands beside its vectors; a study that is missing says nothing.
    """
    if not asked.concepts:
        return [Judged(study, study.score) for study in ranked]
    weight = WISH_WEIGHT if asked.wished else LIKENESS_WEIGHT
    about = tuple({name for concept in asked.concepts for name in descendants(concept.finding)})
    judged = []
    # Of what is asked for, many reports say the same: what they say of it is compared once.
    known: dict[tuple[str, ...], Agreement] = {}
    for study in ranked:
        payload = payloads.get(study.study_id, {})
        told = (*listed(payload, "finding"), *listed(payload, "concept"))
        says = tuple([text for text in told if text.startswith(about)])
        met = known.get(says)
        if met is None:
            met = known[says] = agreement(asked, payload)
        if not met.excluded:
            score = (study.score + weight * met.score) / (1 + weight)
            judged.append(Judged(study, score, met, 1 / (1 + weight)))
    return sorted(judged, key=lambda candidate: (-candidate.score, candidate.study_id))
