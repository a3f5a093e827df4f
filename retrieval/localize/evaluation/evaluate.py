"""Evaluation of localizers on annotated and on normal images, beside image-agnostic baselines.

Every image and structure is one question: the localizers get the structure's finding as phrase, and all
answers are scored by the same measures. On a normal image every structure is a question, too, and a mask is
wrong. `retrieval.localize.evaluation.aggregation` makes means and intervals of the scores.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpus.annotations import AnnotatedImage, AnnotationSet
from corpus.errors import EvaluationError, UnreadableImage
from corpus.findings import VOCABULARY
from corpus.images.reader import read_image
from corpus.normal_images import NormalImage
from corpus.progress import OnProgress, silent
from corpus.records import Problem, Sex, View
from corpus.redaction import redacted
from corpus.splits import Split, split_of
from retrieval.localize.answer import Localization
from retrieval.localize.evaluation.baselines import BASELINES, Atlas
from retrieval.localize.evaluation.box_measures import expected_for_random_box, score_boxes
from retrieval.localize.evaluation.measures import expected_pointing, score, tolerance_in_pixels

Image = NDArray[np.float32]

EvaluatedLocalizer = Callable[[Image, Sequence[str]], Sequence[Localization]]
"""(height, width) image and phrases → an answer to each phrase, in order."""

SplitChoice = Split | Literal["all"]

MASK_METRICS = ("pointing", "iou", "dice", "nsd", "masked", "side_right")
BOX_METRICS = (
    "hit_iou_10", "hit_iou_25", "hit_iou_50", "hit_iobb_10", "hit_iobb_25", "hit_iobb_50",
    "box_dice", "false_boxes",
)  # fmt: skip
METRICS = (*MASK_METRICS, *BOX_METRICS, "specificity")
"""Of every row: those of a map and mask (`measures.Scores`), of boxes (`box_measures.BoxScores`), and the
share of questions on normal images without a mask."""

NORMALS = 200
"""Normal images evaluated at most: each is queried for every structure."""


@redacted
@dataclass(frozen=True, slots=True)
class ScoredQuestion:
    """One image and structure.

    `structure`: as the annotations name it.
    `subject`, `view`, `sex`: of the image.
    `scores`: row (localizer or baseline) → metric → score; None, or no entry, where there is none.
    """

    structure: str
    subject: str
    scores: Mapping[str, Mapping[str, float | None]]
    view: View | None = None
    sex: Sex | None = None


@redacted
@dataclass
class LocalizationEvaluation:
    """The scored questions, and what was excluded.

    `annotations`: their kind.
    `split`: of the subjects that were evaluated.
    `questions`: on annotated images.
    `absent_questions`: on normal images.
    `problems`: annotations that could not be read.
    `seen_subjects`: subjects of annotated and normal images that the encoder was trained on.
    `left_out`: reason → excluded images, annotated or normal.
    `subjects`, `images`: evaluated, with annotations.
    `normal_subjects`, `normal_images`: evaluated, without a finding.
    """

    annotations: str
    split: SplitChoice = "all"
    questions: list[ScoredQuestion] = field(default_factory=list)
    absent_questions: list[ScoredQuestion] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seen_subjects: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    subjects: set[str] = field(default_factory=set)
    images: int = 0
    normal_subjects: set[str] = field(default_factory=set)
    normal_images: int = 0


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
    split: SplitChoice = "all",
    seen: Callable[[str], bool] = lambda subject: False,
    allow_seen: bool = False,
    normals: Sequence[NormalImage] = (),
    most_normals: int = NORMALS,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> LocalizationEvaluation:
    """Evaluate every localizer on every structure of every image.

    Args:
        annotations: the annotated images.
        localizers: row name → localizer.
        structures: evaluate these alone, named as in the annotations or in the vocabulary.
        split: evaluate subjects of this split; baselines use the annotations of all.
        seen: whether the encoder was trained on a subject, by id.
        allow_seen: include such subjects. Else a split with one of them is refused; of `all` they are
            excluded and counted.
        normals: images without a finding; those of the split are evaluated. Seen subjects among them are
            refused, or excluded and counted, as annotated ones.
        most_normals: so many of them at most, drawn by the seed.
        seed: of the random baseline and of that draw.
        on_progress: called for each image, first as its annotations are read, then as it is localized.

    Raises:
        EvaluationError: no question is left, or the encoder was trained on a subject of the split.
    """
    evaluation = LocalizationEvaluation(annotations.kind, split)
    masks: defaultdict[str, list[tuple[NDArray[np.bool_], str]]] = defaultdict(list)
    for done, annotated in enumerate(annotations.read(evaluation.problems.append), 1):
        on_progress("reading annotations", done, len(annotations))
        requested = _requested(annotated, structures)
        for structure, mask in requested.items():
            masks[structure].append((mask, annotated.subject_id))
        subject = annotated.subject_id
        if requested and _is_of(subject, split) and seen(subject):
            evaluation.seen_subjects.add(subject)
    listed = [normal for normal in normals if _is_of(normal.subject_id, split)]
    evaluation.seen_subjects |= {normal.subject_id for normal in listed if seen(normal.subject_id)}
    if evaluation.seen_subjects and split != "all" and not allow_seen:
        raise EvaluationError(
            f"the encoder has learned from {len(evaluation.seen_subjects)} subjects of the split {split!r}: "
            "take --split all, which excludes them, or say --allow-seen and do not compare the numbers"
        )
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
        if not _is_of(annotated.subject_id, split):
            evaluation.left_out["other_splits"] += 1
            continue
        if annotated.subject_id in evaluation.seen_subjects and not allow_seen:
            evaluation.left_out["seen"] += 1
            continue
        evaluation.images += 1
        evaluation.subjects.add(annotated.subject_id)
        evaluation.questions.extend(_score(annotated, requested, localizers, atlases, random))
    if not evaluation.questions:
        raise EvaluationError(_why_empty(evaluation, structures))
    usable = [normal for normal in listed if allow_seen or normal.subject_id not in evaluation.seen_subjects]
    evaluation.left_out["seen"] += len(listed) - len(usable)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(usable))[:most_normals])
    chosen = [usable[number] for number in drawn]
    evaluation.absent_questions.extend(
        _score_normals(chosen, sorted({q.structure for q in evaluation.questions}), localizers, evaluation,
                       on_progress)
    )  # fmt: skip
    return evaluation


def _is_of(subject: str, split: SplitChoice) -> bool:
    return split in ("all", split_of(subject))


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
    subject, questions = annotated.subject_id, []
    for number, (structure, truth) in enumerate(requested.items()):
        scores = {
            row: _scores(found[number].heat, found[number].mask, truth) for row, found in answers.items()
        }
        guesses = atlases[structure].answers(annotated.image, subject, random)
        for row, guess in guesses.items():
            if row == "random":  # its many single pixels have no boxes that mean anything
                pointing = expected_pointing(truth, tolerance_in_pixels(truth.shape))
                boxes = expected_for_random_box(truth, atlases[structure].mean_sides(subject))
                scores[row] = {**asdict(score(guess.heat, guess.mask, truth)), "pointing": pointing}
                scores[row] |= asdict(boxes)
            else:
                scores[row] = _scores(guess.heat, guess.mask, truth)
        questions.append(ScoredQuestion(structure, subject, scores, annotated.view, annotated.sex))
    return questions


def _scores(heat: Image, mask: NDArray[np.bool_] | None, truth: NDArray[np.bool_]) -> dict[str, float | None]:
    return {**asdict(score(heat, mask, truth)), **asdict(score_boxes(mask, truth))}


def _score_normals(
    normals: Sequence[NormalImage],
    structures: Sequence[str],
    localizers: Mapping[str, EvaluatedLocalizer],
    evaluation: LocalizationEvaluation,
    on_progress: OnProgress,
) -> Iterator[ScoredQuestion]:
    """For every structure on every normal image: whether no mask was returned. A baseline always has one."""
    phrases = [phrase_of(structure)[0] for structure in structures]
    for done, normal in enumerate(normals, 1):
        on_progress("localizing on normal images", done, len(normals))
        try:
            image = read_image(normal.location)
        except UnreadableImage as error:
            there = "://" in normal.location or Path(normal.location).exists()
            evaluation.problems.append(Problem(normal.name, "failed" if there else "missing", str(error)))
            continue
        evaluation.normal_images += 1
        evaluation.normal_subjects.add(normal.subject_id)
        answers = {row: localizer(image, phrases) for row, localizer in localizers.items()}
        for number, structure in enumerate(structures):
            scores: dict[str, dict[str, float | None]] = {
                row: {"specificity": float(found[number].mask is None)} for row, found in answers.items()
            }
            scores |= {row: {"specificity": 0.0} for row in BASELINES}
            yield ScoredQuestion(structure, normal.subject_id, scores, normal.view, normal.sex)


def _why_empty(evaluation: LocalizationEvaluation, structures: Collection[str] | None) -> str:
    if evaluation.left_out["seen"]:
        return (
            f"the encoder has learned from every subject of the {evaluation.left_out['seen']} images: "
            f"measure on others, or say --allow-seen"
        )
    if evaluation.left_out["other_splits"]:
        return (
            f"no annotated image is of a subject of the split {evaluation.split!r} "
            f"({evaluation.left_out['other_splits']} are of others): take another --split"
        )
    if structures is not None:
        named = " or ".join(sorted(structures))
        return f"no image has {named} annotated; name a structure as the annotations do"
    return f"no image with an annotation could be read ({len(evaluation.problems)} problems); the first: " + (
        evaluation.problems[0].reason if evaluation.problems else "there is none"
    )
