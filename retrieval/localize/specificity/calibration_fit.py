"""Fit a specificity calibration on images with known findings: labels or reports suffice, no masks.

The regression separates maps of present findings from maps of absent findings, of random vectors, and of
images with shuffled rows. The threshold is set so that 5 % of each of these three kinds pass it, to stay
under 10 % on other images, by cross-fitting: each map is scored by a regression on other subjects' maps. So
all images are used, and none is scored by its own fit.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EvaluationError, NotAdmitted, UnreadableImage
from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status, Statuses, is_normal
from corpus.images.reader import read_image
from corpus.language.labeler import label_study
from corpus.progress import OnProgress, silent
from corpus.records import Study
from corpus.redaction import redacted
from corpus.statistics import ridge_logistic_regression
from retrieval.localize.specificity.calibration import SpecificityCalibration, clip
from retrieval.localize.specificity.map_statistics import (
    Contrasts,
    EncodedImage,
    References,
    encode_image,
    measure,
    random_vectors,
)
from trainer.runtime.encoder import Encoder

TARGET_SPECIFICITY = 0.95
"""Share of each kind of map without a finding that the threshold refuses, of subjects not fitted on."""
MAX_IMAGES = 160
MAX_REFERENCES = 96
"""Images at most that later phrases are compared on; more cost each later answer time."""
FOLDS = 5
"""Parts of the subjects: the statistics of one part's images use the others' images as references."""
BANDS = 8
"""Bands of rows that an image is divided into for shuffling."""
_MIN_IMAGES = 10  # with a finding present, and with one absent
_MIN_FOLDS = 3  # with such images: of these one is held out twice
_RIDGE = 1.0
_SEED = 0

_FINDINGS = tuple(name for name in VOCABULARY.leaves if name not in (NO_FINDING, SUPPORT_DEVICES))


@redacted
@dataclass(frozen=True, slots=True)
class _LabelledImage:
    """An image with one of its present findings and one of its absent ones, where it has any."""

    subject: str
    location: str
    present: str | None
    absent: str | None


def calibrate(
    encoder: Encoder,
    studies: Iterable[Study],
    method: str,
    *,
    most: int = MAX_IMAGES,
    on_progress: OnProgress = silent,
) -> SpecificityCalibration:
    """Fit the specificity calibration of an encoder and a method on studies with known findings.

    Args:
        encoder: any encoder with a map of features.
        studies: with known findings; lateral and unreadable images are skipped.
        method: one of `retrieval.localize.saliency.maps.METHODS`.
        most: images at most.
        on_progress: called for each image.

    Raises:
        EvaluationError: too few images have a present finding, or an absent one.
    """
    images = list(_labelled_images(studies, most))
    folds = _folds(images)
    encoded = [encode_image(encoder, read_image(image.location)) for image in images]
    contrasts = Contrasts(encoder)
    rows: list[NDArray[np.float64]] = []
    kinds: list[str] = []
    parts: list[int] = []
    for fold in range(FOLDS):
        references = _references([one for one, other in zip(encoded, folds, strict=True) if other != fold])
        for number in np.flatnonzero(folds == fold):
            on_progress("masks", len(rows), len(images))
            measured, made = _statistics(encoder, images[number], int(number), method, contrasts, references)
            rows.append(measured)
            kinds += made
            parts += [fold] * len(made)
    return fit(np.concatenate(rows), np.array(kinds), np.array(parts), _references(encoded))


def fit(
    statistics: NDArray[np.float64],
    kinds: NDArray[np.str_],
    folds: NDArray[np.int64],
    references: References,
) -> SpecificityCalibration:
    """Fit weights, threshold and rates on maps of known kind.

    Args:
        statistics: (m, len(STATISTICS)).
        kinds: (m,) "present", "absent", "random", "shuffled".
        folds: (m,) the part of the subjects that each map is of; every kind is in at least three parts.
        references: stored with the calibration.
    """
    right = np.empty(len(kinds), dtype=bool)
    for fold in np.unique(folds):
        own, rest = folds == fold, folds != fold
        held_out = _regress(statistics[rest], kinds[rest], references)
        threshold = _threshold(statistics[rest], kinds[rest], folds[rest], references)
        right[own] = (held_out.specificity(statistics[own]) >= threshold) == (kinds[own] == "present")
    return replace(
        _regress(statistics, kinds, references),
        threshold=_threshold(statistics, kinds, folds, references),
        rates={str(kind): float(right[kinds == kind].mean()) for kind in np.unique(kinds)},
    )


def _threshold(
    statistics: NDArray[np.float64],
    kinds: NDArray[np.str_],
    folds: NDArray[np.int64],
    references: References,
) -> float:
    """The threshold that refuses `TARGET_SPECIFICITY` of each kind without a finding, by cross-fitting."""
    probability = np.empty(len(kinds))
    for fold in np.unique(folds):
        own, rest = folds == fold, folds != fold
        probability[own] = _regress(statistics[rest], kinds[rest], references).specificity(statistics[own])
    others = set(kinds.tolist()) - {"present"}
    return max(float(np.quantile(probability[kinds == kind], TARGET_SPECIFICITY)) for kind in others)


def _regress(
    statistics: NDArray[np.float64], kinds: NDArray[np.str_], references: References
) -> SpecificityCalibration:
    """The regression alone, without threshold and rates."""
    clipped = clip(statistics)
    centre, spread = clipped.mean(axis=0), np.maximum(clipped.std(axis=0), 1e-6)
    design = np.column_stack([(clipped - centre) / spread, np.ones(len(clipped))])
    # Each kind has the same weight, and all kinds without a finding together that of "present".
    counts = {kind: int((kinds == kind).sum()) for kind in np.unique(kinds)}
    others = max(1, len(counts) - 1)
    importance = np.array([len(kinds) / (2 * counts[k] * (1 if k == "present" else others)) for k in kinds])
    ridge = np.array([_RIDGE] * clipped.shape[1] + [0.0])  # the intercept is free
    weights = ridge_logistic_regression(design, kinds == "present", ridge=ridge, importance=importance)
    return SpecificityCalibration(weights, centre, spread, 1.0, references, {})


def _statistics(
    encoder: Encoder,
    labelled: _LabelledImage,
    number: int,
    method: str,
    contrasts: Contrasts,
    references: References,
) -> tuple[NDArray[np.float64], list[str]]:
    """The statistics of an image's maps, a row each, and the kind of each map."""
    image = read_image(labelled.location)
    phrases = {kind: name for kind in ("present", "absent") if (name := getattr(labelled, kind)) is not None}
    noise = random_vectors(1, encoder.dim, _SEED + 1 + number)
    names = [name.replace("_", " ") for name in phrases.values()]
    texts = np.concatenate([encoder.encode_texts(names), noise])
    rows = [measure(encoder, image, texts, method, contrasts, references)[1]]
    kinds = [*phrases, "random"]
    if labelled.present is not None:
        shuffled = shuffle_rows(image, np.random.default_rng([_SEED, number]))
        rows.append(measure(encoder, shuffled, texts[:1], method, contrasts, references)[1])
        kinds.append("shuffled")
    return np.concatenate(rows), kinds


def _folds(images: Sequence[_LabelledImage]) -> NDArray[np.int64]:
    """(n,) the part of the subjects that each image is of.

    Raises:
        EvaluationError: there are too few images.
    """
    subjects = list(dict.fromkeys(image.subject for image in images))
    dealt = np.random.default_rng(_SEED).permutation(len(subjects)) % FOLDS
    part = dict(zip(subjects, dealt.tolist(), strict=True))
    folds = np.array([part[image.subject] for image in images], dtype=np.int64)
    for kind in ("present", "absent"):
        known = [(one.subject, fold) for fold, one in zip(folds, images, strict=True) if getattr(one, kind)]
        parts = {fold for _, fold in known}
        if len(known) < _MIN_IMAGES or len(parts) < _MIN_FOLDS:
            raise EvaluationError(
                f"a calibration needs at least {_MIN_IMAGES} images of {FOLDS} subjects with a finding "
                f"{kind}, not {len(known)} of {len(dict(known))}: give a larger source with labelled or "
                "reported findings"
            )
    return folds


def shuffle_rows(image: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Divide an image into `BANDS` bands of rows and reorder them so that none keeps its position."""
    bands = np.array_split(image, BANDS)
    while True:
        order = random.permutation(BANDS)
        if (order != np.arange(BANDS)).all():
            return np.concatenate([bands[band] for band in order])


def _labelled_images(studies: Iterable[Study], most: int) -> Iterator[_LabelledImage]:
    random = np.random.default_rng(_SEED)
    count = 0
    for study in studies:
        findings = label_study(study).findings
        present = _pick([name for name in _FINDINGS if findings.get(name) is Status.PRESENT], random)
        absent = _pick(_absent(findings), random)
        for image in study.images[:1]:
            if image.view == "lateral" or (present is None and absent is None):
                continue
            if not _is_readable(image.location):
                continue
            yield _LabelledImage(study.subject_id, image.location, present, absent)
            count += 1
        if count >= most:
            return


def _absent(findings: Statuses) -> list[str]:
    if is_normal(findings):
        return [name for name in _FINDINGS if findings.get(name, Status.ABSENT) is Status.ABSENT]
    return [name for name in _FINDINGS if findings.get(name) is Status.ABSENT]


def _pick(names: Sequence[str], random: np.random.Generator) -> str | None:
    return names[int(random.integers(len(names)))] if names else None


def _is_readable(location: str) -> bool:
    try:
        read_image(location)
    except (UnreadableImage, NotAdmitted):
        return False
    return True


def _references(encoded: Sequence[EncodedImage]) -> References:
    chosen = np.random.default_rng(_SEED).permutation(len(encoded))[:MAX_REFERENCES]
    some = [encoded[number] for number in chosen]
    return References(np.stack([one.patches for one in some]), np.stack([one.vector for one in some]))
