"""Measure localizers on pictures whose truth is known, beside baselines that do not look.

Every picture and structure is one question: the localizers are asked by the structure's finding, and all
answers are scored alike. Means are over questions, intervals over people, per structure and over structures.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.annotations import Marked, Marks
from corpus.errors import EvaluationError
from corpus.findings import VOCABULARY
from corpus.progress import OnProgress, silent
from corpus.records import Problem
from corpus.redaction import redacted
from retrieval.localize.answer import Localization
from retrieval.localize.evaluation.baselines import BASELINES, Atlas
from retrieval.localize.evaluation.intervals import DRAWS, mean_over
from retrieval.localize.evaluation.measures import TOLERANCE, Scores, score

Image = NDArray[np.float32]

Localizer = Callable[[Image, Sequence[str]], Sequence[Localization]]
"""(height, width) picture and phrases → an answer to each phrase, in order."""

METRICS = ("pointing", "iou", "dice", "nsd", "masked", "side_right")


@redacted
@dataclass(frozen=True, slots=True)
class Questioned:
    """One picture and structure that was asked for: whose it is, and every row's scores."""

    structure: str
    subject: str
    scores: Mapping[str, Scores]


@redacted
@dataclass
class Measured:
    """An evaluation: the questions, and what could not be asked."""

    marks: str
    questions: list[Questioned] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seen_subjects: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    subjects: set[str] = field(default_factory=set)
    pictures: int = 0


def phrase_of(structure: str) -> tuple[str, str | None]:
    """The words that a structure is asked by, and the finding that it is.

    The vocabulary's alias table decides; what is no finding is asked by its own name.
    """
    finding = VOCABULARY.find(structure)
    return (structure if finding is None else finding.replace("_", " ")), finding


def measure_localizers(
    marks: Marks,
    localizers: Mapping[str, Localizer],
    *,
    structures: Collection[str] | None = None,
    seen: Callable[[str], bool] = lambda subject: False,
    allow_seen: bool = False,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> Measured:
    """Ask every localizer for every structure of every picture.

    Args:
        marks: the truth.
        localizers: row name → localizer.
        structures: ask for these alone, named as the marks name them or as the vocabulary does.
        seen: whether the encoder has learned from a person, by the subject's id.
        allow_seen: measure on such people, too; else they are left out and counted.
        seed: of the random baseline.

    Raises:
        EvaluationError: nothing is left to ask for.
    """
    measured = Measured(marks.kind)
    truths: defaultdict[str, list[tuple[NDArray[np.bool_], str]]] = defaultdict(list)
    for done, picture in enumerate(marks.read(measured.problems.append), 1):
        on_progress("reading marks", done, len(marks))
        for structure, mask in _asked_for(picture, structures).items():
            truths[structure].append((mask, picture.subject_id))
    atlases = {
        name: Atlas.of([mask for mask, _ in held], [subject for _, subject in held])
        for name, held in truths.items()
    }
    random = np.random.default_rng(seed)
    for done, picture in enumerate(marks.read(lambda problem: None), 1):
        on_progress("localizing", done, len(marks))
        asked = _asked_for(picture, structures)
        if not asked:
            continue
        if seen(picture.subject_id):
            measured.seen_subjects.add(picture.subject_id)
            if not allow_seen:
                measured.left_out["seen"] += 1
                continue
        measured.pictures += 1
        measured.subjects.add(picture.subject_id)
        measured.questions.extend(_ask(picture, asked, localizers, atlases, random))
    if not measured.questions:
        raise EvaluationError(_nothing_left(measured, truths, structures))
    return measured


def _asked_for(picture: Marked, structures: Collection[str] | None) -> dict[str, NDArray[np.bool_]]:
    if structures is None:
        return dict(picture.structures)
    wanted = {phrase_of(name) for name in structures}
    return {name: mask for name, mask in picture.structures.items() if phrase_of(name) in wanted}


def _ask(
    picture: Marked,
    asked: Mapping[str, NDArray[np.bool_]],
    localizers: Mapping[str, Localizer],
    atlases: Mapping[str, Atlas],
    random: np.random.Generator,
) -> list[Questioned]:
    phrases = [phrase_of(structure)[0] for structure in asked]
    answers = {row: localizer(picture.image, phrases) for row, localizer in localizers.items()}
    questions = []
    for place, (structure, truth) in enumerate(asked.items()):
        scores = {row: score(told[place].heat, told[place].mask, truth) for row, told in answers.items()}
        guesses = atlases[structure].answers(picture.image, picture.subject_id, random)
        scores |= {row: score(guess.heat, guess.mask, truth) for row, guess in guesses.items()}
        questions.append(Questioned(structure, picture.subject_id, scores))
    return questions


def _nothing_left(
    measured: Measured, truths: Mapping[str, object], structures: Collection[str] | None
) -> str:
    if measured.left_out["seen"]:
        return (
            f"the encoder has learned from everyone on the {measured.left_out['seen']} pictures: measure on "
            f"others, or say --allow-seen"
        )
    if structures is not None:
        return f"no picture has {' or '.join(sorted(structures))} marked; name a structure as the marks do"
    return f"no picture with a mark could be read ({len(measured.problems)} problems); the first: " + (
        measured.problems[0].reason if measured.problems else "there is none"
    )


def tabulate(measured: Measured, methods: Sequence[str], seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """Add the questions up: every structure and their macro mean, every row, every metric with its interval.

    Args:
        measured: the evaluation.
        methods: the localizers' rows, in order; baselines follow.
        seed, draws: of the bootstrap.

    Returns:
        `{"structures": [{"structure", "finding", "phrase", "questions", "rows": [{"method", "baseline",
        metric: {"count", "mean", "ci95"}}]}], "macro": [{"method", "baseline", metric: mean}]}`.
    """
    names = list(dict.fromkeys(question.structure for question in measured.questions))
    table = []
    for name in sorted(names):
        asked = [question for question in measured.questions if question.structure == name]
        phrase, finding = phrase_of(name)
        rows = [_row(row, asked, seed, draws) for row in (*methods, *BASELINES)]
        table.append(
            {"structure": name, "finding": finding, "phrase": phrase, "questions": len(asked), "rows": rows}
        )
    macro = [
        {
            "method": row,
            "baseline": row in BASELINES,
            **{metric: _macro(table, place, metric) for metric in METRICS},
        }
        for place, row in enumerate((*methods, *BASELINES))
    ]
    return {"structures": table, "macro": macro}


def _row(row: str, asked: Sequence[Questioned], seed: int, draws: int) -> dict[str, Any]:
    held = [(question.scores[row], question.subject) for question in asked if row in question.scores]
    subjects = [subject for _, subject in held]
    return {
        "method": row,
        "baseline": row in BASELINES,
        **{
            metric: mean_over(
                [getattr(scores, metric) for scores, _ in held], subjects, seed=seed, draws=draws
            ).as_json()
            for metric in METRICS
        },
    }


def _macro(table: Sequence[Mapping[str, Any]], place: int, metric: str) -> float | None:
    """The mean over structures, each weighing the same."""
    means = [entry["rows"][place][metric]["mean"] for entry in table]
    known = [mean for mean in means if mean is not None]
    return round(float(np.mean(known)), 6) if known else None


def record(
    measured: Measured,
    methods: Sequence[str],
    encoder: Mapping[str, str],
    refined_by: str,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """The whole evaluation in the shape of `docs/contracts/evaluate-localization.schema.json`."""
    states = Counter(problem.state for problem in measured.problems)
    return {
        "encoder": dict(encoder),
        "refined_by": refined_by,
        "marks": measured.marks,
        "pictures": measured.pictures,
        "subjects": len(measured.subjects),
        "seen_subjects": len(measured.seen_subjects),
        "left_out": {
            "seen": measured.left_out["seen"],
            **{s: states[s] for s in ("failed", "skipped", "missing")},
        },
        "failures": [{"item_id": problem.item_id, "reason": problem.reason} for problem in measured.problems],
        "tolerance": TOLERANCE,
        "bootstrap_draws": DRAWS,
        "seed": seed,
        "seconds": round(seconds, 1),
        **tabulate(measured, methods, seed),
    }
