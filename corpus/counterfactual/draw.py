"""Counterfactual radiographs: phantom lesions drawn into real normal radiographs, with a known ground truth.

The lesion's attenuation is drawn by `corpus.phantom.lesions` for the lungs of the radiograph. The
characteristic curve of a radiograph flattens towards white: every unit of attenuation takes the same share of
the distance that is left to white. That share is estimated from the radiograph: between lung and mediastinum
there are about `LUNG_TO_MEDIASTINUM` units on the phantom's bodies.
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

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]

THORAX_MM = 256.0
"""Width between the lungs' outer borders of an adult: the scale of a radiograph without pixel spacing."""

LUNG_TO_MEDIASTINUM = 2.2
"""Units of attenuation between the middle of a lung and the mediastinum on the phantom's bodies."""

_MIN_CONTRAST = 0.08  # of the grey scale, between lung and mediastinum: below it no lesion is visible
_WHITE = 0.97  # a mediastinum whiter than this is clipped: how dense it is cannot be read off
MIN_CONSPICUITY = 1.4
"""A lesion's mean change of grey over the standard deviation of the greys around it, in certain lesions:
95 % of the phantom's reach 1.9 (consolidation), 2.1 (effusion, nodule), 1.4 (pneumothorax)."""

_AROUND_MM = 12.0  # width of the margin around a lesion in which the radiograph's own greys are measured
_SHADING_MM = 10.0  # structures coarser than this are shading, which hides no lesion
_MARKING_MM = 2.0  # structures finer than this count as the lung's own markings


@dataclass(frozen=True, slots=True, eq=False)
class NormalRadiograph:
    """A normal radiograph into which lesions can be drawn.

    `image`: (height, width) float32 in [0, 1].
    `right`, `left`: the patient's lungs.
    `rate`: one unit of attenuation leaves exp(−rate) of the distance between a grey value and white.
    """

    image: Pixels
    right: Lung
    left: Lung
    rate: float

    @classmethod
    def of(cls, image: Pixels, spacing: Spacing | None = None) -> "NormalRadiograph":
        """Find the lungs of a radiograph and estimate its contrast.

        Args:
            image: (height, width) float32 in [0, 1].
            spacing: of its pixels; None assumes a chest `THORAX_MM` wide.

        Raises:
            CorpusError: the lungs are not found with certainty, or hardly differ from the mediastinum.
        """
        lungs = find_lungs(image)
        if lungs is None:
            raise CorpusError("no two clear lungs are found on the radiograph: nothing can be drawn into it")
        either = lungs.right | lungs.left
        columns = np.flatnonzero(either.any(axis=0))
        width = float(columns[-1] + 1 - columns[0])
        scale = THORAX_MM / width if spacing is None else math.sqrt(spacing.pixel_area)
        dark, dense = float(np.median(image[either])), _mediastinum(image, lungs.right, lungs.left)
        if dense - dark < _MIN_CONTRAST:
            raise CorpusError(
                "the radiograph's lungs hardly differ from its mediastinum: no lesion would show"
            )
        rate = math.log((1 - dark) / (1 - min(dense, _WHITE))) / LUNG_TO_MEDIASTINUM
        return cls(image, Lung(lungs.right, "right", scale), Lung(lungs.left, "left", scale), rate)

    def mirrored(self) -> "NormalRadiograph":
        """Return the radiograph mirrored left to right, with the lungs exchanged."""
        return NormalRadiograph(
            np.ascontiguousarray(self.image[:, ::-1]),
            replace(self.left, mask=self.left.mask[:, ::-1], side="right"),
            replace(self.right, mask=self.right.mask[:, ::-1], side="left"),
            self.rate,
        )

    def with_lesions(self, lesions: Sequence[Lesion]) -> Pixels:
        """Return the radiograph with lesions drawn into it, (height, width) float32 in [0, 1].

        Raises:
            CorpusError: a lesion is not one of a lung, such as an enlarged heart.
        """
        radiograph = self.image.copy()
        fine = radiograph - ndimage.gaussian_filter(radiograph, _MARKING_MM / self.right.mm_per_pixel)
        for lesion in lesions:
            field = self._field(lesion)
            radiograph -= field.clears * fine * np.float32(0.8)
            radiograph -= (1 - radiograph) * np.expm1(np.float32(-self.rate) * field.attenuation)
        drawn: Pixels = np.clip(radiograph, 0, 1, dtype=np.float32)
        return drawn

    def hides(self, lesion: Lesion) -> bool:
        """Return whether the radiograph's own markings, ribs and noise hide a lesion from a reader.

        A lesion of one contrast is plain on one radiograph and lost on another.
        """
        mask, scale = self._field(lesion).mask, self.right.mm_per_pixel
        if not mask.any():
            return True
        around = ndimage.binary_dilation(mask, iterations=max(1, round(_AROUND_MM / scale)))
        shading = ndimage.gaussian_filter(self.image, _SHADING_MM / scale)
        markings = float((self.image - shading)[around].std())
        change = float(np.abs(self.with_lesions([lesion]) - self.image)[mask].mean())
        return change < MIN_CONSPICUITY * markings

    def as_seen(self, lesions: Sequence[Lesion]) -> tuple[Lesion, ...]:
        """Return the lesions as a reader would report them: a finding with a hidden one is doubtful."""
        doubted = {lesion.finding for lesion in lesions if lesion.faint or self.hides(lesion)}
        return tuple(replace(lesion, faint=lesion.finding in doubted) for lesion in lesions)

    def masks(self, lesions: Sequence[Lesion]) -> dict[str, Mask]:
        """Return finding → (height, width) bool, the union of both sides of a bilateral one."""
        found: dict[str, Mask] = {}
        for lesion in lesions:
            mask = self._field(lesion).mask
            found[lesion.finding] = found[lesion.finding] | mask if lesion.finding in found else mask
        return found

    def _field(self, lesion: Lesion) -> Field:
        return draw(lesion, self.left if lesion.side == "left" else self.right)


def normal_radiographs(
    source: Source,
    split: Split | None,
    on_problem: ProblemSink,
    *,
    leave_out: Callable[[str], bool] = lambda subject: False,
) -> Iterator[tuple[str, NormalRadiograph]]:
    """Yield (subject, radiograph): the first usable normal frontal radiograph of each subject of a source.

    Args:
        source: read in its order.
        split: the split of the subjects (`corpus.splits`), None for all.
        on_problem: receives what cannot be read, and radiographs that nothing can be drawn into, as
            `skipped`.
        leave_out: whether to pass over a subject.
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
            radiograph = NormalRadiograph.of(read.pixels, read.spacing)
        except CorpusError as error:
            on_problem(Problem(image.item_id, "skipped", str(error)))
            continue
        used.add(subject)
        yield subject, radiograph


def _is_normal_frontal(study: Study) -> bool:
    frontal = bool(study.images) and study.images[0].view in (None, "pa", "ap", "ap_supine")
    return frontal and is_normal(study.findings)


def drawable_scene(seed: int, number: int) -> Scene:
    """Return scene `number` of the cohort `seed` without the lesions that another radiograph cannot have.

    Its lesions and its report fit any normal radiograph; its body and exposure are not used.
    """
    whole = scene(seed, number)
    lesions = tuple(lesion for lesion in whole.lesions if lesion.finding != CARDIOMEGALY)
    return replace(whole, lesions=lesions)


def contralateral(lesion: Lesion) -> Lesion:
    """Return the same lesion at the same position of the other lung."""
    return replace(lesion, side="left" if lesion.side == "right" else "right")


def _mediastinum(image: Pixels, right: Mask, left: Mask) -> float:
    """Return the median grey between the lungs, at the height of their middle third."""
    rows = np.flatnonzero(right.any(axis=1) & left.any(axis=1))
    third = len(rows) // 3
    greys = []
    for row in rows[third : 2 * third]:
        inner = np.flatnonzero(right[row])[-1] + 1, np.flatnonzero(left[row])[0]
        greys.append(image[row, inner[0] : inner[1]])
    return float(np.median(np.concatenate(greys))) if greys else 0.0
