"""Evaluation of drafts for many images, beside three baselines that copy a report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corpus.errors import CorpusError, EvaluationError
from corpus.findings import VOCABULARY, Status, Statuses, present_leaves
from corpus.images.reader import read_image
from corpus.progress import OnProgress, silent
from corpus.records import Problem, Source, Study
from corpus.redaction import redacted
from corpus.statistics import BOOTSTRAP_DRAWS
from indexer.index import Index
from retrieval.draft.baselines import BASELINES, Copied, copy_reports, most_frequent_report
from retrieval.draft.draft import PhraseLocalizer, draft
from retrieval.draft.metrics import DraftClaims, FindingScore, difference, score_findings, score_words
from retrieval.draft.text import Draft
from trainer.runtime.training_overlap import overlapping_subjects

OURS = "draft"


@redacted
@dataclass(frozen=True, slots=True)
class Drafted:
    """The draft for a study's image, and the reports that the baselines copied."""

    study: Study
    truth: Statuses
    draft: Draft
    copied: Mapping[str, Copied]

    def text(self, system: str) -> str:
        """The text of a system."""
        return self.draft.body if system == OURS else self.copied[system].text

    def claimed(self, system: str) -> frozenset[str]:
        """The present leaf findings that a system claims."""
        if system != OURS:
            return self.copied[system].findings
        stated = self.draft.findings
        return frozenset(n for n in VOCABULARY.leaves if stated.get(n) is Status.PRESENT)


@dataclass(frozen=True, slots=True)
class Drafts:
    """Drafts for one source.

    `seen`: studies excluded because the encoder was trained on their subjects.
    `failed`: unreadable images.
    """

    drafted: tuple[Drafted, ...]
    seen: int
    failed: int


def draft_source(
    index: Index,
    source: Source,
    *,
    truth: Mapping[str, Statuses] | None = None,
    gallery_truth: Mapping[str, Statuses] | None = None,
    phrase_localizer: PhraseLocalizer | None = None,
    limit: int | None = None,
    allow_seen: bool = False,
    on_progress: OnProgress = silent,
) -> Drafts:
    """Draft for each study's first image; its own subject's studies are no neighbours.

    Args:
        index: of the neighbours.
        source: of the images, with findings by a table or by `truth`.
        truth: study_id → its findings; replaces the source's own.
        gallery_truth: study_id → findings of a report in the index, for the baselines; else the catalog's.
        phrase_localizer: localizes findings in the images; None: the drafts ask for every side.
        limit: images at most.
        allow_seen: draft also for subjects that the encoder was trained on.
        on_progress: called for each draft.

    Raises:
        EvaluationError: no image is left to draft for.
    """
    problems: list[Problem] = []
    studies = [study for study in source.studies(problems.append) if study.images]
    seen = frozenset[str]()
    if not allow_seen:
        seen = overlapping_subjects(index.encoder.record, {study.subject_id for study in studies})
    new = [study for study in studies if study.subject_id not in seen]
    chosen = new[:limit]
    frequent = most_frequent_report(index)
    drafted: list[Drafted] = []
    failed = sum(problem.state == "failed" for problem in problems)
    for study in chosen:
        try:
            made = _draft_one(index, study, truth or {}, gallery_truth or {}, frequent, phrase_localizer)
        except CorpusError:
            failed += 1
            continue
        drafted.append(made)
        on_progress("drafting", len(drafted), len(chosen))
    if not drafted:
        raise EvaluationError(
            f"there is no image to draft for: {len(studies)} studies with images, "
            f"{len(studies) - len(new)} of subjects that the encoder was trained on, {failed} unreadable"
        )
    return Drafts(tuple(drafted), len(studies) - len(new), failed)


def _draft_one(
    index: Index,
    study: Study,
    truth: Mapping[str, Statuses],
    gallery_truth: Mapping[str, Statuses],
    frequent: Study | None,
    phrase_localizer: PhraseLocalizer | None,
) -> Drafted:
    location = study.images[0].location
    made = draft(index, location, subject=study.subject_id, phrase_localizer=phrase_localizer)
    vector = index.encoder.encode_images([read_image(location)])[0]
    copied = copy_reports(index, vector, [study.subject_id], frequent, gallery_truth)
    return Drafted(study, truth.get(study.study_id, study.findings), made, copied)


def score_drafts(drafts: Drafts, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> dict[str, Any]:
    """Score drafts beside the baselines, in the form of `docs/contracts/evaluate-drafts.schema.json`.

    Findings are scored on studies with known findings, words on those with a report.
    """
    known = [one for one in drafts.drafted if one.truth]
    reported = [one for one in drafts.drafted if one.study.report is not None]
    systems = (OURS, *(name for name in BASELINES if all(name in one.copied for one in drafts.drafted)))
    ours = _claims(known, OURS)
    record: dict[str, Any] = {
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
            claims = _claims(known, system)
            row["findings"] = score_findings(claims, draws=draws, seed=seed).as_json()
            if system != OURS:
                ahead, bounds = difference(ours, claims, draws=draws, seed=seed)
                row["draft_ahead_by"] = {"f1": round(ahead, 4), "ci95": [round(b, 4) for b in bounds]}
        if reported:
            row["words"] = score_words(
                [one.text(system) for one in reported],
                [one.study.report.described for one in reported if one.study.report is not None],
            )
        record["systems"][system] = row
    return record


def embedding_similarity(index: Index, drafts: Drafts, system: str = OURS) -> float | None:
    """Mean cosine between a system's text and the radiologist's report; None where there is no report."""
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
    """Precision, recall and F1 of each finding that is claimed or true in any draft."""
    claims = _claims([one for one in drafts if one.truth], system)
    table = {}
    for name in VOCABULARY.leaves:
        alone = [DraftClaims(one.subject, one.claimed & {name}, one.true & {name}) for one in claims]
        if any(one.claimed or one.true for one in alone):
            score: FindingScore = score_findings(alone, draws=1)
            table[name] = {
                "positives": sum(bool(one.true) for one in alone),
                "precision": round(score.precision, 4),
                "recall": round(score.recall, 4),
                "f1": round(score.f1, 4),
            }
    return table


def _claims(drafted: Sequence[Drafted], system: str) -> list[DraftClaims]:
    return [
        DraftClaims(one.study.subject_id, one.claimed(system), present_leaves(one.truth)) for one in drafted
    ]
