"""Fit a calibration on films whose findings are known: by labels or reports, no mask is needed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EvaluationError, NotAdmitted, UnreadableImage
from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status, Statuses, is_normal
from corpus.images.reader import read_image
from corpus.language.labeler import labeled
from corpus.records import Study
from corpus.redaction import redacted
from retrieval.localize.specificity.calibration import Calibration, fit
from retrieval.localize.specificity.evidence import (
    Contrasts,
    Look,
    References,
    look_at,
    measure,
    random_vectors,
)
from trainer.runtime.encoder import Encoder

MOST_FILMS = 160
MOST_REFERENCES = 96
"""Films at most that phrases are also asked on; more cost each later answer time."""
FOLDS = 5
"""Parts of the people: what is measured of one part's films is measured beside the others'."""
BANDS = 8
"""Bands of rows that a shuffled film is cut into."""
_FEWEST = 10  # films with a finding present, and with one absent
_FEWEST_FOLDS = 3  # that have such films: of these one is left out twice
_SEED = 0

OnProgress = Callable[[int, int], None]
_ASKED = tuple(name for name in VOCABULARY.leaves if name not in (NO_FINDING, SUPPORT_DEVICES))


@redacted
@dataclass(frozen=True, slots=True)
class _Film:
    """A film with a finding that it shows, if any, and one that it does not."""

    subject: str
    location: str
    present: str | None
    absent: str | None


def calibrate(
    encoder: Encoder,
    studies: Iterable[Study],
    method: str,
    *,
    most: int = MOST_FILMS,
    on_progress: OnProgress = lambda done, total: None,
) -> Calibration:
    """Fit when to believe the maps of an encoder by a method.

    Args:
        encoder: any encoder with a map of features.
        studies: films with known findings; frontal films that cannot be read are passed over.
        method: one of `retrieval.localize.saliency.maps.METHODS`.
        most: films at most.
        on_progress: told films done, of how many.

    Raises:
        EvaluationError: too few films show a finding, or none is known to be without one.
    """
    films = list(_films(studies, most))
    folds = _folds(films)
    looks = [look_at(encoder, [read_image(film.location)])[0] for film in films]
    contrasts = Contrasts(encoder)
    rows: list[NDArray[np.float64]] = []
    kinds: list[str] = []
    parts: list[int] = []
    for fold in range(FOLDS):
        references = _references([look for look, other in zip(looks, folds, strict=True) if other != fold])
        for place in np.flatnonzero(folds == fold):
            on_progress(len(rows), len(films))
            measured, asked = _measured(encoder, films[place], int(place), method, contrasts, references)
            rows.append(measured)
            kinds += asked
            parts += [fold] * len(asked)
    return fit(np.concatenate(rows), np.array(kinds), np.array(parts), _references(looks))


def _measured(
    encoder: Encoder,
    film: _Film,
    number: int,
    method: str,
    contrasts: Contrasts,
    references: References,
) -> tuple[NDArray[np.float64], list[str]]:
    """The statistics of a film's maps, a row each, and of which kind each map is."""
    image = read_image(film.location)
    asked = {kind: name for kind in ("present", "absent") if (name := getattr(film, kind)) is not None}
    noise = random_vectors(1, encoder.dim, _SEED + 1 + number)
    texts = np.concatenate([encoder.encode_texts([name.replace("_", " ") for name in asked.values()]), noise])
    rows = [measure(encoder, image, texts, method, contrasts, references)[1]]
    kinds = [*asked, "random"]
    if film.present is not None:
        torn = shuffle_rows(image, np.random.default_rng([_SEED, number]))
        rows.append(measure(encoder, torn, texts[:1], method, contrasts, references)[1])
        kinds.append("shuffled")
    return np.concatenate(rows), kinds


def _folds(films: Sequence[_Film]) -> NDArray[np.int64]:
    """(n,) the part of the people that each film is of.

    Raises:
        EvaluationError: there is too little to learn from.
    """
    people = list(dict.fromkeys(film.subject for film in films))
    dealt = np.random.default_rng(_SEED).permutation(len(people)) % FOLDS
    part = dict(zip(people, dealt.tolist(), strict=True))
    folds = np.array([part[film.subject] for film in films], dtype=np.int64)
    for kind in ("present", "absent"):
        shown = [(film.subject, fold) for fold, film in zip(folds, films, strict=True) if getattr(film, kind)]
        parts = {fold for _, fold in shown}
        if len(shown) < _FEWEST or len(parts) < _FEWEST_FOLDS:
            raise EvaluationError(
                f"a calibration needs at least {_FEWEST} films of {FOLDS} people with a finding {kind}, not "
                f"{len(shown)} of {len(dict(shown))}: give a larger source whose findings are labelled or "
                "reported"
            )
    return folds


def shuffle_rows(image: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Cut a film into `BANDS` bands of rows and put them into an order in which none stays in its place."""
    bands = np.array_split(image, BANDS)
    while True:
        order = random.permutation(BANDS)
        if (order != np.arange(BANDS)).all():
            return np.concatenate([bands[place] for place in order])


def _films(studies: Iterable[Study], most: int) -> Iterator[_Film]:
    random = np.random.default_rng(_SEED)
    found = 0
    for study in studies:
        told = labeled(study)
        shown = _pick([n for n in _ASKED if told.findings.get(n) is Status.PRESENT], random)
        absent = _pick(_absent(told.findings), random)
        for image in study.images[:1]:
            if image.view == "lateral" or (shown is None and absent is None) or not _readable(image.location):
                continue
            yield _Film(study.subject_id, image.location, shown, absent)
            found += 1
        if found >= most:
            return


def _absent(findings: Statuses) -> list[str]:
    if is_normal(findings):
        return [name for name in _ASKED if findings.get(name, Status.ABSENT) is Status.ABSENT]
    return [name for name in _ASKED if findings.get(name) is Status.ABSENT]


def _pick(names: Sequence[str], random: np.random.Generator) -> str | None:
    return names[int(random.integers(len(names)))] if names else None


def _readable(location: str) -> bool:
    try:
        read_image(location)
    except (UnreadableImage, NotAdmitted):
        return False
    return True


def _references(looks: Sequence[Look]) -> References:
    chosen = np.random.default_rng(_SEED).permutation(len(looks))[:MOST_REFERENCES]
    some = [looks[place] for place in chosen]
    return References(np.stack([look.patches for look in some]), np.stack([look.vector for look in some]))
