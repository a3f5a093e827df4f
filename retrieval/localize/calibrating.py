"""Fit a calibration on films whose findings are known: by labels or reports, no mask is needed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EvaluationError, NotAdmitted, UnreadableImage
from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status, Statuses, is_normal
from corpus.images import read_image
from corpus.labeler import labeled
from corpus.records import Study
from retrieval.localize.calibration import Calibration, fit, rates_of
from retrieval.localize.evidence import Contrasts, References, look_at, measure, random_vectors
from trainer.encoder import Encoder

MOST_FILMS = 160
FITTED = 0.6
"""Share of the films that are fitted on; the rates are of the others."""
BANDS = 8
"""Bands of rows that a shuffled film is cut into."""
_FEWEST = 5  # maps of each kind, among films fitted on and among the others
_SEED = 0

OnProgress = Callable[[int, int], None]
_ASKED = tuple(name for name in VOCABULARY.leaves if name not in (NO_FINDING, SUPPORT_DEVICES))


@dataclass(frozen=True, slots=True)
class _Film:
    """A film with a finding that it shows, if any, and one that it does not."""

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
        method: one of `retrieval.localize.maps.METHODS`.
        most: films at most.
        on_progress: told films done, of how many.

    Raises:
        EvaluationError: too few films show a finding, or none is known to be without one.
    """
    films = list(_films(studies, most))
    random = np.random.default_rng(_SEED)
    order = random.permutation(len(films))
    fitted = set(order[: round(FITTED * len(films))].tolist())
    references = _references(encoder, [films[place] for place in sorted(fitted)])
    contrasts = Contrasts(encoder)
    rows: list[NDArray[np.float64]] = []
    kinds: list[str] = []
    on_fit: list[bool] = []
    for place, film in enumerate(films):
        on_progress(place, len(films))
        image = read_image(film.location)
        noise = random_vectors(1, encoder.dim, _SEED + 1 + place)
        asked = {kind: name for kind in ("present", "absent") if (name := getattr(film, kind)) is not None}
        words = [name.replace("_", " ") for name in asked.values()]
        texts = np.concatenate([encoder.encode_texts(words), noise])
        rows.append(measure(encoder, image, texts, method, contrasts, references)[1])
        kinds += [*asked, "random"]
        if film.present is not None:
            torn = shuffle_rows(image, np.random.default_rng([_SEED, place]))
            rows.append(measure(encoder, torn, texts[:1], method, contrasts, references)[1])
            kinds.append("shuffled")
        on_fit += [place in fitted] * (len(kinds) - len(on_fit))
    statistics, named, fits = np.concatenate(rows), np.array(kinds), np.array(on_fit)
    for part in (fits, ~fits):
        for kind in ("present", "absent"):
            if (count := int((named[part] == kind).sum())) < _FEWEST:
                raise EvaluationError(
                    f"a calibration needs at least {_FEWEST} films with a finding {kind} in each part, "
                    f"not {count}: give a larger source whose findings are labelled or reported"
                )
    fitting = fit(statistics[fits], named[fits], references)
    return replace(fitting, rates=rates_of(fitting, statistics[~fits], named[~fits]))


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
            yield _Film(image.location, shown, absent)
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


def _references(encoder: Encoder, films: Sequence[_Film]) -> References:
    looks = [look_at(encoder, [read_image(film.location)])[0] for film in films]
    if not looks:
        raise EvaluationError("the source has no readable film whose findings are known: nothing to fit on")
    return References(np.stack([look.patches for look in looks]), np.stack([look.vector for look in looks]))
