"""Do the answers follow the film? Lesions put into normal films, moved, mirrored and taken out again.

All else of a film stays as it was, so what changes in an answer is due to the lesion: the map, the mask, the
side and the film's rank among others must follow it. Each check is a rate over films, with intervals over
people.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.counterfactual.draw import NormalFilm, moved
from corpus.errors import EvaluationError
from corpus.phantom.lesions import CONSOLIDATION, EFFUSION, NODULE, PNEUMOTHORAX, Lesion
from corpus.phantom.scene import draw_lesion
from corpus.progress import OnProgress, silent
from corpus.records import Problem
from corpus.redaction import redacted
from retrieval.localize.answer import Localization
from retrieval.localize.evaluation.evaluate import Localizer, phrase_of
from retrieval.localize.evaluation.intervals import DRAWS, mean_over
from retrieval.localize.evaluation.measures import TOLERANCE, Scores, score

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

INSERTED: tuple[str, ...] = (CONSOLIDATION, EFFUSION, NODULE, PNEUMOTHORAX)
"""The findings that are put into films, one at a time."""

CHECKS: Mapping[str, tuple[str, ...]] = {
    "inserted": ("map", "mask", "dice", "side", "ranking"),
    "moved": ("map", "mask", "dice", "side", "ranking"),
    "mirrored": ("map", "mask", "dice", "side", "ranking"),
    "removed": ("map", "mask", "ranking"),
}
"""What is checked after each change.

`map`: the map's maximum lies in the lesion; after removal the lesion's place is no longer the map's maximum.
`mask`: a mask is given that lies over the lesion (`dice` at least `OVERLAP`); after removal none is given.
`dice`: the mask's mean Dice. `side`: the mask is on the lesion's side, of the masks given. `ranking`: of the
same film with each finding in turn and without any, the one with the finding asked for comes first; after
removal: the film fits the phrase less than with the lesion.
"""

_TRIES = 20
"""Lesions drawn, at most, until the film hides neither one nor its like in the other lung."""

OVERLAP = 0.2
"""Dice from which a mask lies over a lesion."""


class Vectors(Protocol):
    """What of an encoder the ranking needs."""

    def encode_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(n, dim) unit rows."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) unit rows."""
        ...


@redacted
@dataclass
class Stress:
    """What the checks gave: check → finding → (value, subject) of every film."""

    outcomes: defaultdict[tuple[str, str], defaultdict[str, list[tuple[float | None, str]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    films: int = 0
    subjects: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def note(self, change: str, check: str, finding: str, value: float | bool | None, subject: str) -> None:
        """Keep one outcome."""
        self.outcomes[change, check][finding].append((None if value is None else float(value), subject))


def stress_films(
    films: Iterable[tuple[str, NormalFilm]],
    localizer: Localizer,
    vectors: Vectors,
    stress: Stress,
    *,
    limit: int,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> Stress:
    """Put every finding into every film, move, mirror and remove it, and check the answers.

    Args:
        films: (subject, film) each.
        localizer: what is checked.
        vectors: the encoder, for the ranking.
        stress: takes the outcomes; returned.
        limit: films at most.
        seed: of the lesions.

    Raises:
        EvaluationError: there is no film to draw into.
    """
    phrases = {finding: phrase_of(finding)[0] for finding in INSERTED}
    texts = vectors.encode_texts(list(phrases.values()))
    for number, (subject, film) in enumerate(films):
        if number == limit:
            break
        stress.films += 1
        stress.subjects.add(subject)
        _stress_film(stress, film, subject, number, phrases, texts, localizer, vectors, seed)
        on_progress("changing films", number + 1, limit)
    if not stress.films:
        raise EvaluationError(
            f"no normal film of people whom the encoder has not seen ({len(stress.problems)} are unusable): "
            f"name other --films, or --split all"
        )
    return stress


def _stress_film(
    stress: Stress,
    film: NormalFilm,
    subject: str,
    number: int,
    phrases: Mapping[str, str],
    texts: NDArray[np.float32],
    localizer: Localizer,
    vectors: Vectors,
    seed: int,
) -> None:
    """One film with every finding in turn."""
    lesions = {
        finding: _draw(finding, film, np.random.default_rng([seed, number, place]))
        for place, finding in enumerate(INSERTED)
    }
    changed = {
        "inserted": [film.with_lesions([lesions[finding]]) for finding in INSERTED],
        "moved": [film.with_lesions([moved(lesions[finding])]) for finding in INSERTED],
    }
    changed["mirrored"] = [np.ascontiguousarray(image[:, ::-1]) for image in changed["inserted"]]
    without = film.image
    plain = {"inserted": without, "moved": without, "mirrored": np.ascontiguousarray(without[:, ::-1])}
    before = localizer(without, list(phrases.values()))
    likeness = {
        change: vectors.encode_images([*images, plain[change]]) @ texts.T
        for change, images in changed.items()
    }
    for place, finding in enumerate(INSERTED):
        truth = film.masks([lesions[finding]])[finding]
        truths = {
            "inserted": truth,
            "moved": film.masks([moved(lesions[finding])])[finding],
            "mirrored": truth[:, ::-1],
        }
        for change, mask in truths.items():
            if not mask.any():
                continue
            (answer,) = localizer(changed[change][place], [phrases[finding]])
            _check_present(stress, change, finding, answer, mask, subject)
            first = int(np.argmax(likeness[change][:, place])) == place
            stress.note(change, "ranking", finding, first, subject)
        if truth.any():
            _check_removed(stress, finding, before[place], truth, subject)
            falls = likeness["inserted"][-1, place] < likeness["inserted"][place, place]
            stress.note("removed", "ranking", finding, bool(falls), subject)


def _draw(finding: str, film: NormalFilm, random: np.random.Generator) -> Lesion:
    """A lesion that a reader of the film could be sure of, on either side; after `_TRIES` the last drawn."""
    for _ in range(_TRIES):
        side = "right" if random.random() < 0.5 else "left"
        zone = (
            ("upper", "mid", "lower")[int(random.integers(3))] if finding in (CONSOLIDATION, NODULE) else None
        )
        lesion = draw_lesion(random, finding, side, zone, faint=False)  # type: ignore[arg-type]  # the words are
        if not film.hides(lesion) and not film.hides(moved(lesion)):
            break
    return lesion


def _check_present(
    stress: Stress, change: str, finding: str, answer: Localization, truth: Mask, subject: str
) -> None:
    scores: Scores = score(answer.heat, answer.mask, truth)
    stress.note(change, "map", finding, scores.pointing, subject)
    stress.note(change, "mask", finding, scores.dice >= OVERLAP, subject)
    stress.note(change, "dice", finding, scores.dice, subject)
    stress.note(change, "side", finding, scores.side_right, subject)


def _check_removed(stress: Stress, finding: str, answer: Localization, truth: Mask, subject: str) -> None:
    scores = score(answer.heat, answer.mask, truth)
    stress.note("removed", "map", finding, 1.0 - scores.pointing, subject)
    stress.note("removed", "mask", finding, answer.mask is None, subject)


def as_record(
    stress: Stress,
    encoder: Mapping[str, str],
    method: str,
    refined_by: str,
    films: str,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """The outcome in the shape of `docs/contracts/stress.schema.json`."""
    checks = []
    for change, names in CHECKS.items():
        for name in names:
            held = stress.outcomes[change, name]
            rates = {finding: _rate(held[finding], seed) for finding in INSERTED}
            every = _rate([pair for finding in INSERTED for pair in held[finding]], seed)
            checks.append({"change": change, "check": name, "all": every, "findings": rates})
    return {
        "encoder": dict(encoder),
        "method": method,
        "refined_by": refined_by,
        "source": films,
        "films": stress.films,
        "subjects": len(stress.subjects),
        "unusable_films": len(stress.problems),
        "overlap": OVERLAP,
        "tolerance": TOLERANCE,
        "bootstrap_draws": DRAWS,
        "seed": seed,
        "seconds": round(seconds, 1),
        "checks": checks,
    }


def _rate(pairs: Sequence[tuple[float | None, str]], seed: int) -> dict[str, Any]:
    return mean_over([value for value, _ in pairs], [subject for _, subject in pairs], seed=seed).as_json()
