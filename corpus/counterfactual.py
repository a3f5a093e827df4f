"""Counterfactual films: phantom lesions drawn into real normal radiographs, so that the truth is known.

A film is given the attenuation of a lesion as `corpus.phantom.lesions` draws it for that film's own lungs.
How much a unit of attenuation brightens a film is read off the film: between lung and mediastinum there are
about `LUNG_TO_MEDIASTINUM` units on the phantom's bodies. Towards white a film's curve flattens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from corpus.errors import CorpusError
from corpus.findings import is_normal
from corpus.images import read_image
from corpus.lungs import find_lungs
from corpus.phantom.lesions import CARDIOMEGALY, Field, Lesion, Lung, draw
from corpus.phantom.scene import Scene, scene
from corpus.records import Problem, ProblemSink, Source, Study
from corpus.splits import Split, split_of

Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]

THORAX_MM = 256.0
"""Width between the lungs' outer borders of a grown person: what gives a film without spacing its scale."""

LUNG_TO_MEDIASTINUM = 2.2
"""Units of attenuation between the middle of a lung and the mediastinum on the phantom's bodies."""

_LEAST_CONTRAST = 0.08  # of the grey scale between lung and mediastinum: below it the film shows nothing
_MARKING_MM = 2.0  # what is finer than this counts as the lung's own markings


@dataclass(frozen=True, slots=True, eq=False)
class NormalFilm:
    """A normal radiograph that lesions can be drawn into.

    `image`: (height, width) float32 in [0, 1]. `right`, `left`: its lungs, the patient's. `dark`: grey of
    aerated lung. `gain`: grey values that one unit of attenuation adds to it.
    """

    image: Picture
    right: Lung
    left: Lung
    dark: float
    gain: float

    @classmethod
    def of(cls, image: Picture) -> "NormalFilm":
        """Find the lungs of a film and read its contrast.

        Raises:
            CorpusError: its lungs are not found with certainty, or hardly differ from the mediastinum.
        """
        lungs = find_lungs(image)
        if lungs is None:
            raise CorpusError("no two clear lungs are found on the film: nothing can be drawn into it")
        either = lungs.right | lungs.left
        columns = np.flatnonzero(either.any(axis=0))
        scale = THORAX_MM / float(columns[-1] + 1 - columns[0])
        dark, dense = float(np.median(image[either])), _mediastinum(image, lungs.right, lungs.left)
        if dense - dark < _LEAST_CONTRAST:
            raise CorpusError("the film's lungs hardly differ from its mediastinum: nothing would show")
        gain = (dense - dark) / LUNG_TO_MEDIASTINUM
        return cls(image, Lung(lungs.right, "right", scale), Lung(lungs.left, "left", scale), dark, gain)

    def mirrored(self) -> "NormalFilm":
        """The film turned left to right: what was the patient's right is now the left."""
        return NormalFilm(
            np.ascontiguousarray(self.image[:, ::-1]),
            replace(self.left, mask=self.left.mask[:, ::-1], side="right"),
            replace(self.right, mask=self.right.mask[:, ::-1], side="left"),
            self.dark,
            self.gain,
        )

    def with_lesions(self, lesions: Sequence[Lesion]) -> Picture:
        """The film with lesions drawn into it, (height, width) float32 in [0, 1].

        Raises:
            CorpusError: a lesion is none of a lung, as an enlarged heart.
        """
        film = self.image.copy()
        fine = film - ndimage.gaussian_filter(film, _MARKING_MM / self.right.mm_per_pixel)
        room = np.float32(1 - self.dark)
        for lesion in lesions:
            field = self._field(lesion)
            film -= field.clears * fine * np.float32(0.8)
            film += np.float32(self.gain) * field.attenuation * np.clip((1 - film) / room, 0, 1)
        drawn: Picture = np.clip(film, 0, 1, dtype=np.float32)
        return drawn

    def masks(self, lesions: Sequence[Lesion]) -> dict[str, Mask]:
        """Where each finding lies: finding → (height, width) bool, both sides of a bilateral one."""
        found: dict[str, Mask] = {}
        for lesion in lesions:
            mask = self._field(lesion).mask
            found[lesion.finding] = found[lesion.finding] | mask if lesion.finding in found else mask
        return found

    def _field(self, lesion: Lesion) -> Field:
        return draw(lesion, self.left if lesion.side == "left" else self.right)


def normal_films(
    source: Source,
    split: Split | None,
    on_problem: ProblemSink,
    *,
    leave_out: Callable[[str], bool] = lambda subject: False,
) -> Iterator[tuple[str, NormalFilm]]:
    """Yield (subject, film) for the first usable normal frontal film of each person of a source.

    Args:
        source: read in its order.
        split: whose films (`corpus.splits`), None for everyone's.
        on_problem: gets what cannot be read, and films that nothing can be drawn into, as `skipped`.
        leave_out: people to pass over.
    """
    used: set[str] = set()
    for study in source.studies(on_problem):
        subject = study.subject_id
        if subject in used or not _is_normal_frontal(study) or leave_out(subject):
            continue
        if split is not None and split_of(subject) != split:
            continue
        image = study.images[0]
        try:
            film = NormalFilm.of(read_image(image.location))
        except CorpusError as error:
            on_problem(Problem(image.item_id, "skipped", str(error)))
            continue
        used.add(subject)
        yield subject, film


def _is_normal_frontal(study: Study) -> bool:
    frontal = bool(study.images) and study.images[0].view in (None, "pa", "ap", "ap_supine")
    return frontal and is_normal(study.findings)


def drawn_scene(seed: int, number: int) -> Scene:
    """Scene `number` of the cohort `seed`, without what cannot be drawn into another's film.

    Its lesions and its report fit any normal film; its body and exposure are not used.
    """
    whole = scene(seed, number)
    lesions = tuple(lesion for lesion in whole.lesions if lesion.finding != CARDIOMEGALY)
    return replace(whole, lesions=lesions)


def moved(lesion: Lesion) -> Lesion:
    """The same lesion at the same place of the other lung."""
    return replace(lesion, side="left" if lesion.side == "right" else "right")


def _mediastinum(image: Picture, right: Mask, left: Mask) -> float:
    """Grey between the lungs, at the height of their middle third."""
    rows = np.flatnonzero(right.any(axis=1) & left.any(axis=1))
    third = len(rows) // 3
    greys = []
    for row in rows[third : 2 * third]:
        inner = np.flatnonzero(right[row])[-1] + 1, np.flatnonzero(left[row])[0]
        greys.append(image[row, inner[0] : inner[1]])
    return float(np.median(np.concatenate(greys))) if greys else 0.0
