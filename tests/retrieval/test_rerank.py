"""Reranking: each candidate is compared with the query by its own findings."""

import random

from corpus.findings import VOCABULARY, Status
from corpus.language.concepts import Concept
from indexer.ingest.payload import write_concept
from indexer.vectors.filters import PayloadValue
from retrieval.query.intent import read_text
from retrieval.ranking.agreement import agreement
from retrieval.ranking.fusion import FoundItem, Ranking, fuse_rankings
from retrieval.ranking.rerank import rerank

TEXTS = ("small right effusion", "nodule, no pneumothorax", "no lung opacity", "possible edema on the left")


def drawn(count: int) -> dict[str, dict[str, PayloadValue]]:
    """Payloads of studies that show this and that, some of them nothing."""
    rng = random.Random(4)
    made: dict[str, dict[str, PayloadValue]] = {}
    for number in range(count):
        concepts = [
            Concept(
                rng.choice(VOCABULARY.names),
                rng.choice([Status.PRESENT, Status.ABSENT, Status.UNCERTAIN]),
                rng.choice([None, "right", "left", "bilateral"]),
                rng.choice([None, "upper", "lower"]),
                rng.choice([None, "small", "large"]),
            )
            for _ in range(rng.randint(0, 9))
        ]
        statuses = {concept.finding: concept.status for concept in concepts}
        made[f"s{number}"] = {
            "finding": [n if s is Status.PRESENT else f"{n}:{s}" for n, s in statuses.items()],
            "concept": [write_concept(concept) for concept in concepts],
        }
    return made


def test_every_candidate_is_reranked_as_it_would_be_alone() -> None:
    payloads = drawn(500)
    items = tuple(FoundItem(study, study, "report", 0.5) for study in payloads)
    ranked = fuse_rankings([Ranking("all", items)], len(payloads))
    for text in TEXTS:
        intent = read_text(text)
        alone = {study: agreement(intent, payload) for study, payload in payloads.items()}
        reranked = {
            candidate.study.study_id: candidate.agreement for candidate in rerank(ranked, intent, payloads)
        }
        assert reranked == {study: met for study, met in alone.items() if not met.excluded}
        assert len({met.score for met in alone.values()}) > 2
