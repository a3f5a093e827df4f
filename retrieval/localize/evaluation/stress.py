"""Stress test: do answers follow lesions inserted into normal radiographs, moved, mirrored and removed?

The rest of a radiograph is unchanged, so that a change in the answer is due to the lesion: the map, the mask,
its side and the radiograph's rank among others must follow it. Each check is a rate over radiographs, with
intervals over subjects.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.counterfactual.draw import NormalRadiograph, contralateral
from corpus.errors import EvaluationError
from corpus.phantom.lesions import CONSOLIDATION, EFFUSION, NODULE, PNEUMOTHORAX, Lesion
from corpus.phantom.scene import draw_lesion
from corpus.progress import OnProgress, silent
from corpus.records import Problem
from corpus.redaction import redacted
from corpus.statistics import BOOTSTRAP_DRAWS
from retrieval.localize.answer import Localization
from retrieval.localize.evaluation.evaluate import EvaluatedLocalizer, phrase_of
from retrieval.localize.evaluation.intervals import mean_over
from retrieval.localize.evaluation.measures import TOLERANCE, Scores, score

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

INSERTED: tuple[str, ...] = (CONSOLIDATION, EFFUSION, NODULE, PNEUMOTHORAX)
"""The findings that are inserted, one at a time."""

CHECKS: Mapping[str, tuple[str, ...]] = {
    "inserted": ("map", "mask", "dice", "side", "ranking"),
    "moved": ("map", "mask", "dice", "side", "ranking"),
    "mirrored": ("map", "mask", "dice", "side", "ranking"),
    "removed": ("map", "mask", "ranking"),
}
"""What is checked after each change.

`map`: the map's maximum lies in the lesion; after removal it no longer lies where the lesion was.
`mask`: a mask overlaps the lesion (`dice` at least `OVERLAP`); after removal there is no mask.
`dice`: the mask's mean Dice.
`side`: the mask is on the lesion's side, of the masks that were returned.
`ranking`: of the same radiograph with each finding in turn and with none, the one with the finding in the
phrase ranks first; after removal its similarity with the phrase is lower than with the lesion.
"""

_TRIES = 20
"""Lesions drawn, at most, until the radiograph hides neither it nor its counterpart in the other lung."""

OVERLAP = 0.2
"""Dice from which a mask overlaps a lesion."""


class VectorEncoder(Protocol):
    """The part of an encoder that the ranking needs."""

    def encode_images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(n, dim) unit rows."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) unit rows."""
        ...


@redacted
@dataclass
class StressOutcomes:
    """The outcomes of the checks.

    `outcomes`: (change, check) → finding → (value, subject) of every radiograph.
    `images`: radiographs tested.
    `problems`: radiographs that could not be used.
    """

    outcomes: defaultdict[tuple[str, str], defaultdict[str, list[tuple[float | None, str]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    images: int = 0
    subjects: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def note(self, change: str, check: str, finding: str, value: float | bool | None, subject: str) -> None:
        """Add one outcome."""
        self.outcomes[change, check][finding].append((None if value is None else float(value), subject))


def run_stress_test(
    radiographs: Iterable[tuple[str, NormalRadiograph]],
    localizer: EvaluatedLocalizer,
    encoder: VectorEncoder,
    stress: StressOutcomes,
    *,
    limit: int,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> StressOutcomes:
    """Insert every finding into every radiograph, move, mirror and remove it, and check the answers.

    Args:
        radiographs: (subject, normal radiograph) each.
        localizer: under test.
        encoder: for the ranking.
        stress: takes the outcomes; returned.
        limit: radiographs at most.
        seed: of the lesions.
        on_progress: called for each radiograph.

    Raises:
        EvaluationError: there is no radiograph to draw into.
    """
    phrases = {finding: phrase_of(finding)[0] for finding in INSERTED}
    texts = encoder.encode_texts(list(phrases.values()))
    for number, (subject, radiograph) in enumerate(radiographs):
        if number == limit:
            break
        stress.images += 1
        stress.subjects.add(subject)
        _test_radiograph(stress, radiograph, subject, number, phrases, texts, localizer, encoder, seed)
        on_progress("changing radiographs", number + 1, limit)
    if not stress.images:
        raise EvaluationError(
            f"no normal radiograph of subjects that the encoder was not trained on "
            f"({len(stress.problems)} are unusable): name other --films, or --split all"
        )
    return stress


def _test_radiograph(
    stress: StressOutcomes,
    radiograph: NormalRadiograph,
    subject: str,
    number: int,
    phrases: Mapping[str, str],
    texts: NDArray[np.float32],
    localizer: EvaluatedLocalizer,
    encoder: VectorEncoder,
    seed: int,
) -> None:
    """Test one radiograph with every finding in turn."""
    lesions = {
        finding: _draw(finding, radiograph, np.random.default_rng([seed, number, position]))
        for position, finding in enumerate(INSERTED)
    }
    changed = {
        "inserted": [radiograph.with_lesions([lesions[finding]]) for finding in INSERTED],
        "moved": [radiograph.with_lesions([contralateral(lesions[finding])]) for finding in INSERTED],
    }
    changed["mirrored"] = [np.ascontiguousarray(image[:, ::-1]) for image in changed["inserted"]]
    without = radiograph.image
    plain = {"inserted": without, "moved": without, "mirrored": np.ascontiguousarray(without[:, ::-1])}
    before = localizer(without, list(phrases.values()))
    similarity = {
        change: encoder.encode_images([*images, plain[change]]) @ texts.T
        for change, images in changed.items()
    }
    for position, finding in enumerate(INSERTED):
        truth = radiograph.masks([lesions[finding]])[finding]
        truths = {
            "inserted": truth,
            "moved": radiograph.masks([contralateral(lesions[finding])])[finding],
            "mirrored": truth[:, ::-1],
        }
        for change, mask in truths.items():
            if not mask.any():
                continue
            (answer,) = localizer(changed[change][position], [phrases[finding]])
            _check_present(stress, change, finding, answer, mask, subject)
            first = int(np.argmax(similarity[change][:, position])) == position
            stress.note(change, "ranking", finding, first, subject)
        if truth.any():
            _check_removed(stress, finding, before[position], truth, subject)
            falls = similarity["inserted"][-1, position] < similarity["inserted"][position, position]
            stress.note("removed", "ranking", finding, bool(falls), subject)


def _draw(finding: str, radiograph: NormalRadiograph, random: np.random.Generator) -> Lesion:
    """A lesion that is visible on either side; after `_TRIES` the last drawn."""
    for _ in range(_TRIES):
        side = "right" if random.random() < 0.5 else "left"
        zone = (
            ("upper", "mid", "lower")[int(random.integers(3))] if finding in (CONSOLIDATION, NODULE) else None
        )
        lesion = draw_lesion(random, finding, side, zone, faint=False)  # type: ignore[arg-type]  # the words are
        if not radiograph.hides(lesion) and not radiograph.hides(contralateral(lesion)):
            break
    return lesion


def _check_present(
    stress: StressOutcomes, change: str, finding: str, answer: Localization, truth: Mask, subject: str
) -> None:
    scores: Scores = score(answer.heat, answer.mask, truth)
    stress.note(change, "map", finding, scores.pointing, subject)
    stress.note(change, "mask", finding, scores.dice >= OVERLAP, subject)
    stress.note(change, "dice", finding, scores.dice, subject)
    stress.note(change, "side", finding, scores.side_right, subject)


def _check_removed(
    stress: StressOutcomes, finding: str, answer: Localization, truth: Mask, subject: str
) -> None:
    scores = score(answer.heat, answer.mask, truth)
    stress.note("removed", "map", finding, 1.0 - scores.pointing, subject)
    stress.note("removed", "mask", finding, answer.mask is None, subject)


def as_record(
    stress: StressOutcomes,
    encoder: Mapping[str, str],
    method: str,
    refined_by: str,
    source: str,
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """The outcome in the shape of `docs/contracts/stress.schema.json`."""
    checks = []
    for change, names in CHECKS.items():
        for name in names:
            by_finding = stress.outcomes[change, name]
            rates = {finding: _rate(by_finding[finding], seed) for finding in INSERTED}
            every = _rate([pair for finding in INSERTED for pair in by_finding[finding]], seed)
            checks.append({"change": change, "check": name, "all": every, "findings": rates})
    return {
        "encoder": dict(encoder),
        "method": method,
        "refined_by": refined_by,
        "source": source,
        "films": stress.images,
        "subjects": len(stress.subjects),
        "unusable_films": len(stress.problems),
        "overlap": OVERLAP,
        "tolerance": TOLERANCE,
        "bootstrap_draws": BOOTSTRAP_DRAWS,
        "seed": seed,
        "seconds": round(seconds, 1),
        "checks": checks,
    }


def _rate(pairs: Sequence[tuple[float | None, str]], seed: int) -> dict[str, Any]:
    return mean_over([value for value, _ in pairs], [subject for _, subject in pairs], seed=seed).as_json()
