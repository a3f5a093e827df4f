"""Reranking: candidates in the order of their fused score and of how their findings agree with the query.

Fusion knows ranks only. Here a study's findings are compared with those that the query asks for; a study
that shows a finding that a phrase denies is removed, however near its vectors are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corpus.findings import VOCABULARY
from corpus.redaction import redacted
from indexer.ingest.payload import listed
from indexer.vectors.filters import PayloadValue
from retrieval.query.intent import Intent
from retrieval.ranking.agreement import Agreement, agreement
from retrieval.ranking.fusion import RankedStudy

WISH_WEIGHT = 2.0
"""Weight of the agreement with a phrase, beside 1 for the fused score."""
DESCRIPTION_WEIGHT = 0.5
"""Weight of the agreement with the findings of a case or report to resemble."""


@redacted
@dataclass(frozen=True, slots=True)
class Reranked:
    """A candidate with its final score.

    Attributes:
        study: the candidate as fusion ranked it.
        score: (fused + weight · agreement) / (1 + weight); the fused score where no findings are asked for.
        agreement: with the findings asked for; None where none are.
        fused_weight: share of the fused score in `score`, 1 / (1 + weight).
    """

    study: RankedStudy
    score: float
    agreement: Agreement | None = None
    fused_weight: float = 1.0

    @property
    def contributed_by_findings(self) -> float:
        """The part of the score that is not of the fused rankings."""
        return self.score - self.fused_weight * self.study.score


def rerank(
    ranked: Sequence[RankedStudy], intent: Intent, payloads: Mapping[str, Mapping[str, PayloadValue]]
) -> list[Reranked]:
    """Order candidates by (fused + weight · agreement) / (1 + weight), best first.

    Args:
        ranked: the fused candidates, in any order.
        intent: the findings asked for; with none the order stays.
        payloads: study → payload of a vector of it; a study without one shows nothing.
    """
    if not intent.concepts:
        return [Reranked(study, study.score) for study in ranked]
    weight = WISH_WEIGHT if intent.wished else DESCRIPTION_WEIGHT
    findings = {concept.finding for concept in intent.concepts}
    relevant = tuple(findings.union(*map(VOCABULARY.descendants, findings)))
    reranked = []
    # Many reports state the same of the findings asked for: each such statement is compared once.
    compared: dict[tuple[str, ...], Agreement] = {}
    for study in ranked:
        payload = payloads.get(study.study_id, {})
        entries = (*listed(payload, "finding"), *listed(payload, "concept"))
        statement = tuple([entry for entry in entries if entry.startswith(relevant)])
        met = compared.get(statement)
        if met is None:
            met = compared[statement] = agreement(intent, payload)
        if not met.excluded:
            score = (study.score + weight * met.score) / (1 + weight)
            reranked.append(Reranked(study, score, met, 1 / (1 + weight)))
    return sorted(reranked, key=lambda candidate: (-candidate.score, candidate.study.study_id))
