"""Drafts of many pictures, judged beside three ways of making one without looking."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corpus.errors import CorpusError, EvaluationError
from corpus.findings import VOCABULARY, Status, Statuses, present_leaves
from corpus.images.reader import read_image
from corpus.records import Problem, Source, Study
from corpus.redaction import redacted
from indexer.index import Index
from retrieval.draft.baselines import BASELINES, Copied, copy_reports, most_frequent_report
from retrieval.draft.draft import Localizing, draft
from retrieval.draft.metrics import FindingScore, Judged, difference, score_findings, score_words
from retrieval.draft.text import Draft
from trainer.runtime.training_overlap import seen_among

OURS = "draft"


@redacted
@dataclass(frozen=True, slots=True)
class Drafted:
    """A picture, what was drafted for it, and what the baselines copied."""

    study: Study
    truth: Statuses
    draft: Draft
    copied: Mapping[str, Copied]

    def text(self, system: str) -> str:
        """What a system wrote."""
        return self.draft.body if system == OURS else self.copied[system].text

    def claimed(self, system: str) -> frozenset[str]:
        """The present leaf findings that a system declares."""
        if system != OURS:
            return self.copied[system].findings
        stated = self.draft.findings
        return frozenset(n for n in VOCABULARY.leaves if stated.get(n) is Status.PRESENT)


@dataclass(frozen=True, slots=True)
class Drafts:
    """Drafts of one source. `seen`: pictures left out, of people the encoder knows; `failed`: unread ones."""

    drafted: tuple[Drafted, ...]
    seen: int
    failed: int


def draft_source(
    index: Index,
    source: Source,
    *,
    truth: Mapping[str, Statuses] | None = None,
    gallery_truth: Mapping[str, Statuses] | None = None,
    localizing: Localizing | None = None,
    limit: int | None = None,
    allow_seen: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Drafts:
    """Draft for each study's first picture; its own person's studies are no neighbours.

    Args:
        index: whose cases are the neighbours.
        source: the pictures, with findings by a table or by `truth`.
        truth: study_id → what it shows; replaces the source's own findings.
        gallery_truth: study_id → what a report of the index says, for the baselines; else the catalog's word.
        localizing: as `retrieval.draft.draft.draft` takes it.
        limit: pictures at most.
        allow_seen: draft also for people the encoder learned from.
        on_progress: told how many are done.

    Raises:
        EvaluationError: no picture is left to draft for.
    """
    problems: list[Problem] = []
    studies = [study for study in source.studies(problems.append) if study.images]
    seen = frozenset[str]()
    if not allow_seen:
        seen = seen_among(index.encoder.record, {study.subject_id for study in studies})
    new = [study for study in studies if study.subject_id not in seen]
    frequent = most_frequent_report(index)
    drafted: list[Drafted] = []
    failed = sum(problem.state == "failed" for problem in problems)
    for study in new[:limit]:
        try:
            made = _draft_one(index, study, truth or {}, gallery_truth or {}, frequent, localizing)
        except CorpusError:
            failed += 1
            continue
        drafted.append(made)
        if on_progress is not None:
            on_progress(len(drafted))
    if not drafted:
        raise EvaluationError(
            f"there is no picture to draft for: {len(studies)} studies with pictures, "
            f"{len(studies) - len(new)} of people that the encoder learned from, {failed} unreadable"
        )
    return Drafts(tuple(drafted), len(studies) - len(new), failed)


def _draft_one(
    index: Index,
    study: Study,
    truth: Mapping[str, Statuses],
    gallery_truth: Mapping[str, Statuses],
    frequent: Study | None,
    localizing: Localizing | None,
) -> Drafted:
    location = study.images[0].location
    made = draft(index, location, subject=study.subject_id, localizing=localizing)
    vector = index.encoder.encode_images([read_image(location)])[0]
    copied = copy_reports(index, vector, [study.subject_id], frequent, gallery_truth)
    return Drafted(study, truth.get(study.study_id, study.findings), made, copied)


def judge(drafts: Drafts, *, draws: int = 1_000, seed: int = 0) -> dict[str, Any]:
    """Judge drafts beside the baselines: the form of `docs/contracts/evaluate-drafts.schema.json`.

    Findings are judged on pictures of which something is known, words on those that have a report.
    """
    known = [one for one in drafts.drafted if one.truth]
    reported = [one for one in drafts.drafted if one.study.report is not None]
    systems = (OURS, *(name for name in BASELINES if all(name in one.copied for one in drafts.drafted)))
    ours = _judged(known, OURS)
    told: dict[str, Any] = {
        "drafts": len(drafts.drafted),
        "subjects": len({one.study.subject_id for one in drafts.drafted}),
        "seen_subjects_left_out": drafts.seen,
        "failed": drafts.failed,
        "undrafted": sum(not one.draft.findings for one in drafts.drafted),
        "bootstrap": {"draws": draws, "seed": seed},
        "systems": {},
    }
    for system in systems:
        row: dict[str, Any] = {
            "findings": None,
            "words": None,
            "length": float(np.mean([len(one.text(system).split()) for one in drafts.drafted])),
            "claimed": float(np.mean([len(one.claimed(system)) for one in drafts.drafted])),
        }
        if known:
            judged = _judged(known, system)
            row["findings"] = score_findings(judged, draws=draws, seed=seed).as_json()
            if system != OURS:
                ahead, bounds = difference(ours, judged, draws=draws, seed=seed)
                row["draft_ahead_by"] = {"f1": round(ahead, 4), "ci95": [round(b, 4) for b in bounds]}
        if reported:
            row["words"] = score_words(
                [one.text(system) for one in reported],
                [one.study.report.described for one in reported if one.study.report is not None],
            )
        told["systems"][system] = row
    return told


def embedding_similarity(index: Index, drafts: Drafts, system: str = OURS) -> float | None:
    """Mean cosine between what a system wrote and the report that was written; None where there is none."""
    pairs = [
        (one.text(system), one.study.report.described)
        for one in drafts.drafted
        if one.study.report is not None and one.text(system)
    ]
    if not pairs:
        return None
    ours = index.encoder.encode_texts([draft for draft, _ in pairs])
    theirs = index.encoder.encode_texts([report for _, report in pairs])
    return float((ours * theirs).sum(axis=1).mean())


def per_finding(drafts: Iterable[Drafted], system: str = OURS) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of each finding that is claimed or true anywhere."""
    judged = _judged([one for one in drafts if one.truth], system)
    table = {}
    for name in VOCABULARY.leaves:
        alone = [Judged(j.subject, j.claimed & {name}, j.true & {name}) for j in judged]
        if any(j.claimed or j.true for j in alone):
            score: FindingScore = score_findings(alone, draws=1)
            table[name] = {
                "positives": sum(bool(j.true) for j in alone),
                "precision": round(score.precision, 4),
                "recall": round(score.recall, 4),
                "f1": round(score.f1, 4),
            }
    return table


def _judged(drafted: Sequence[Drafted], system: str) -> list[Judged]:
    return [Judged(one.study.subject_id, one.claimed(system), present_leaves(one.truth)) for one in drafted]
