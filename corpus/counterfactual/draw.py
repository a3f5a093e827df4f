"""Counterfactual films: phantom lesions drawn into real normal radiographs, so that the truth is known.

A film is given the attenuation of a lesion as `corpus.phantom.lesions` draws it for that film's own lungs.
A film's curve flattens towards white: every unit of attenuation takes the same share of what is left to
white. That share is read off the film: between lung and mediastinum there are about `LUNG_TO_MEDIASTINUM`
units on the phantom's bodies.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from corpus.counterfactual.lungs import find_lungs
from corpus.dicom.spacing import Spacing
from corpus.errors import CorpusError
from corpus.findings import is_normal
from corpus.images.reader import load_image
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
_WHITE = 0.97  # a mediastinum whiter than this is clipped: how dense it is cannot be read off
LEAST_CONSPICUITY = 1.4
"""A lesion's mean change of grey over the deviation of the film's own greys around it, in lesions one can be
sure of: 95 % of the phantom's reach 1.9 (consolidation), 2.1 (effusion, nodule), 1.4 (pneumothorax)."""

_AROUND_MM = 12.0  # so far beyond a lesion's border the film's own greys are looked at
_SHADING_MM = 10.0  # what is coarser than this is shading, which hides nothing
_MARKING_MM = 2.0  # what is finer than this counts as the lung's own markings


@dataclass(frozen=True, slots=True, eq=False)
class NormalFilm:
    """A normal radiograph that lesions can be drawn into.

    `image`: (height, width) float32 in [0, 1]. `right`, `left`: its lungs, the patient's. `rate`: a unit of
    attenuation leaves exp(−rate) of what a grey value lacks to white.
    """

    image: Picture
    right: Lung
    left: Lung
    rate: float

    @classmethod
    def of(cls, image: Picture, spacing: Spacing | None = None) -> "NormalFilm":
        """Find the lungs of a film and read its contrast.

        Args:
            image: (height, width) float32 in [0, 1].
            spacing: of its pixels; where it is unknown, the chest is taken to be `THORAX_MM` wide.

        Raises:
            CorpusError: its lungs are not found with certainty, or hardly differ from the mediastinum.
        """
        lungs = find_lungs(image)
        if lungs is None:
            raise CorpusError("no two clear lungs are found on the film: nothing can be drawn into it")
        either = lungs.right | lungs.left
        columns = np.flatnonzero(either.any(axis=0))
        width = float(columns[-1] + 1 - columns[0])
        scale = THORAX_MM / width if spacing is None else math.sqrt(spacing.pixel_area)
        dark, dense = float(np.median(image[either])), _mediastinum(image, lungs.right, lungs.left)
        if dense - dark < _LEAST_CONTRAST:
            raise CorpusError("the film's lungs hardly differ from its mediastinum: nothing would show")
        rate = math.log((1 - dark) / (1 - min(dense, _WHITE))) / LUNG_TO_MEDIASTINUM
        return cls(image, Lung(lungs.right, "right", scale), Lung(lungs.left, "left", scale), rate)

    def mirrored(self) -> "NormalFilm":
        """The film turned left to right: what was the patient's right is now the left."""
        return NormalFilm(
            np.ascontiguousarray(self.image[:, ::-1]),
            replace(self.left, mask=self.left.mask[:, ::-1], side="right"),
            replace(self.right, mask=self.right.mask[:, ::-1], side="left"),
            self.rate,
        )

    def with_lesions(self, lesions: Sequence[Lesion]) -> Picture:
        """The film with lesions drawn into it, (height, width) float32 in [0, 1].

        Raises:
            CorpusError: a lesion is none of a lung, as an enlarged heart.
        """
        film = self.image.copy()
        fine = film - ndimage.gaussian_filter(film, _MARKING_MM / self.right.mm_per_pixel)
        for lesion in lesions:
            field = self._field(lesion)
            film -= field.clears * fine * np.float32(0.8)
            film -= (1 - film) * np.expm1(np.float32(-self.rate) * field.attenuation)
        drawn: Picture = np.clip(film, 0, 1, dtype=np.float32)
        return drawn

    def hides(self, lesion: Lesion) -> bool:
        """Whether the film's own markings, ribs and noise hide a lesion: no reader could be sure of it.

        A lesion of one contrast is plain on one film and lost on another.
        """
        mask, scale = self._field(lesion).mask, self.right.mm_per_pixel
        if not mask.any():
            return True
        around = ndimage.binary_dilation(mask, iterations=max(1, round(_AROUND_MM / scale)))
        shading = ndimage.gaussian_filter(self.image, _SHADING_MM / scale)
        markings = float((self.image - shading)[around].std())
        change = float(np.abs(self.with_lesions([lesion]) - self.image)[mask].mean())
        return change < LEAST_CONSPICUITY * markings

    def as_seen(self, lesions: Sequence[Lesion]) -> tuple[Lesion, ...]:
        """The lesions as a reader of this film tells them: doubtful where one of a finding is hidden."""
        doubted = {lesion.finding for lesion in lesions if lesion.faint or self.hides(lesion)}
        return tuple(replace(lesion, faint=lesion.finding in doubted) for lesion in lesions)

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
            read = load_image(image.location)
            film = NormalFilm.of(read.pixels, read.spacing)
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
