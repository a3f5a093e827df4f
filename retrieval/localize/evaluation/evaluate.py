"""Evaluation of localizers on annotated images, beside image-agnostic baselines.

Every image and structure is one question: the localizers get the structure's finding as phrase, and all
answers are scored by the same measures. Means are over questions, intervals over subjects, per structure and
over structures.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.annotations import AnnotatedImage, AnnotationSet
from corpus.errors import EvaluationError
from corpus.findings import VOCABULARY
from corpus.progress import OnProgress, silent
from corpus.records import Problem
from corpus.redaction import redacted
from corpus.statistics import BOOTSTRAP_DRAWS
from retrieval.localize.answer import Localization
from retrieval.localize.evaluation.baselines import BASELINES, Atlas
from retrieval.localize.evaluation.intervals import mean_over
from retrieval.localize.evaluation.measures import TOLERANCE, Scores, score

Image = NDArray[np.float32]

EvaluatedLocalizer = Callable[[Image, Sequence[str]], Sequence[Localization]]
"""(height, width) image and phrases → an answer to each phrase, in order."""

METRICS = ("pointing", "iou", "dice", "nsd", "masked", "side_right")


@redacted
@dataclass(frozen=True, slots=True)
class ScoredQuestion:
    """One image and structure, its subject, and the scores of every row (localizer or baseline)."""

    structure: str
    subject: str
    scores: Mapping[str, Scores]


@redacted
@dataclass
class LocalizationEvaluation:
    """The scored questions, and what was excluded.

    `annotations`: their kind.
    `problems`: annotations that could not be read.
    `seen_subjects`: subjects of the images that the encoder was trained on.
    `left_out`: reason → excluded images.
    `subjects`, `images`: evaluated.
    """

    annotations: str
    questions: list[ScoredQuestion] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seen_subjects: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    subjects: set[str] = field(default_factory=set)
    images: int = 0


def phrase_of(structure: str) -> tuple[str, str | None]:
    """The phrase for a structure, and its finding by the vocabulary's alias table.

    The phrase of a structure that is no finding is its own name.
    """
    finding = VOCABULARY.find(structure)
    return (structure if finding is None else finding.replace("_", " ")), finding


def measure_localizers(
    annotations: AnnotationSet,
    localizers: Mapping[str, EvaluatedLocalizer],
    *,
    structures: Collection[str] | None = None,
    seen: Callable[[str], bool] = lambda subject: False,
    allow_seen: bool = False,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> LocalizationEvaluation:
    """Evaluate every localizer on every structure of every image.

    Args:
        annotations: the annotated images.
        localizers: row name → localizer.
        structures: evaluate these alone, named as in the annotations or in the vocabulary.
        seen: whether the encoder was trained on a subject, by id.
        allow_seen: include such subjects; else they are excluded and counted.
        seed: of the random baseline.
        on_progress: called for each image, first as its annotations are read, then as it is localized.

    Raises:
        EvaluationError: no question is left.
    """
    evaluation = LocalizationEvaluation(annotations.kind)
    masks: defaultdict[str, list[tuple[NDArray[np.bool_], str]]] = defaultdict(list)
    for done, annotated in enumerate(annotations.read(evaluation.problems.append), 1):
        on_progress("reading annotations", done, len(annotations))
        for structure, mask in _requested(annotated, structures).items():
            masks[structure].append((mask, annotated.subject_id))
    atlases = {
        name: Atlas.of([mask for mask, _ in of_structure], [subject for _, subject in of_structure])
        for name, of_structure in masks.items()
    }
    random = np.random.default_rng(seed)
    for done, annotated in enumerate(annotations.read(lambda problem: None), 1):
        on_progress("localizing", done, len(annotations))
        requested = _requested(annotated, structures)
        if not requested:
            continue
        if seen(annotated.subject_id):
            evaluation.seen_subjects.add(annotated.subject_id)
            if not allow_seen:
                evaluation.left_out["seen"] += 1
                continue
        evaluation.images += 1
        evaluation.subjects.add(annotated.subject_id)
        evaluation.questions.extend(_score(annotated, requested, localizers, atlases, random))
    if not evaluation.questions:
        raise EvaluationError(_why_empty(evaluation, structures))
    return evaluation


def _requested(annotated: AnnotatedImage, structures: Collection[str] | None) -> dict[str, NDArray[np.bool_]]:
    """The masks of an image's structures that are evaluated."""
    if structures is None:
        return dict(annotated.structures)
    wanted = {phrase_of(name) for name in structures}
    return {name: mask for name, mask in annotated.structures.items() if phrase_of(name) in wanted}


def _score(
    annotated: AnnotatedImage,
    requested: Mapping[str, NDArray[np.bool_]],
    localizers: Mapping[str, EvaluatedLocalizer],
    atlases: Mapping[str, Atlas],
    random: np.random.Generator,
) -> list[ScoredQuestion]:
    """Every localizer's and baseline's scores on one image."""
    phrases = [phrase_of(structure)[0] for structure in requested]
    answers = {row: localizer(annotated.image, phrases) for row, localizer in localizers.items()}
    questions = []
    for number, (structure, truth) in enumerate(requested.items()):
        scores = {row: score(found[number].heat, found[number].mask, truth) for row, found in answers.items()}
        guesses = atlases[structure].answers(annotated.image, annotated.subject_id, random)
        scores |= {row: score(guess.heat, guess.mask, truth) for row, guess in guesses.items()}
        questions.append(ScoredQuestion(structure, annotated.subject_id, scores))
    return questions


def _why_empty(evaluation: LocalizationEvaluation, structures: Collection[str] | None) -> str:
    if evaluation.left_out["seen"]:
        return (
            f"the encoder has learned from every subject of the {evaluation.left_out['seen']} images: "
            f"measure on others, or say --allow-seen"
        )
    if structures is not None:
        named = " or ".join(sorted(structures))
        return f"no image has {named} annotated; name a structure as the annotations do"
    return f"no image with an annotation could be read ({len(evaluation.problems)} problems); the first: " + (
        evaluation.problems[0].reason if evaluation.problems else "there is none"
    )


def tabulate(
    evaluation: LocalizationEvaluation, methods: Sequence[str], seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> dict[str, Any]:
    """Aggregate the questions: for every structure and over all, every row, every metric with its interval.

    Args:
        evaluation: the scored questions.
        methods: the localizers' rows, in order; baselines follow.
        seed, draws: of the bootstrap.

    Returns:
        `{"structures": [{"structure", "finding", "phrase", "questions", "rows": [{"method", "baseline",
        metric: {"count", "mean", "ci95"}}]}], "macro": [{"method", "baseline", metric: mean}]}`.
    """
    names = list(dict.fromkeys(question.structure for question in evaluation.questions))
    table = []
    for name in sorted(names):
        questions = [question for question in evaluation.questions if question.structure == name]
        phrase, finding = phrase_of(name)
        rows = [_row(row, questions, seed, draws) for row in (*methods, *BASELINES)]
        table.append(
            {
                "structure": name,
                "finding": finding,
                "phrase": phrase,
                "questions": len(questions),
                "rows": rows,
            }
        )
    macro = [
        {
            "method": row,
            "baseline": row in BASELINES,
            **{metric: _macro(table, position, metric) for metric in METRICS},
        }
        for position, row in enumerate((*methods, *BASELINES))
    ]
    return {"structures": table, "macro": macro}


def _row(row: str, questions: Sequence[ScoredQuestion], seed: int, draws: int) -> dict[str, Any]:
    scored = [(question.scores[row], question.subject) for question in questions if row in question.scores]
    subjects = [subject for _, subject in scored]
    return {
        "method": row,
        "baseline": row in BASELINES,
        **{
            metric: mean_over(
                [getattr(scores, metric) for scores, _ in scored], subjects, seed=seed, draws=draws
            ).as_json()
            for metric in METRICS
        },
    }


def _macro(table: Sequence[Mapping[str, Any]], row: int, metric: str) -> float | None:
    """The mean over structures, with equal weights."""
    means = [entry["rows"][row][metric]["mean"] for entry in table]
    known = [mean for mean in means if mean is not None]
    return round(float(np.mean(known)), 6) if known else None


def record(
    evaluation: LocalizationEvaluation,
    methods: Sequence[str],
    encoder: Mapping[str, str],
    refined_by: str,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """The whole evaluation in the shape of `docs/contracts/evaluate-localization.schema.json`."""
    states = Counter(problem.state for problem in evaluation.problems)
    return {
        "encoder": dict(encoder),
        "refined_by": refined_by,
        "marks": evaluation.annotations,
        "pictures": evaluation.images,
        "subjects": len(evaluation.subjects),
        "seen_subjects": len(evaluation.seen_subjects),
        "left_out": {
            "seen": evaluation.left_out["seen"],
            **{s: states[s] for s in ("failed", "skipped", "missing")},
        },
        "failures": [
            {"item_id": problem.item_id, "reason": problem.reason} for problem in evaluation.problems
        ],
        "tolerance": TOLERANCE,
        "bootstrap_draws": BOOTSTRAP_DRAWS,
        "seed": seed,
        "seconds": round(seconds, 1),
        **tabulate(evaluation, methods, seed),
    }
