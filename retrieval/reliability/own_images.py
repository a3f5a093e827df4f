"""The images of an index, each queried as if it were new: the data that calibrations are fitted on.

Only subjects that the encoder was not trained on are representative of new ones; images of the others are
left out, by the keyed hashes in the encoder's record.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.records import Study
from corpus.redaction import redacted
from indexer.index import Index
from trainer.runtime.training_overlap import overlapping_subjects

MOST_IMAGES = 1_000
"""Images that a calibration is fitted on at most: its result hardly changes with more."""


@redacted
@dataclass(frozen=True, slots=True)
class OwnImage:
    """An image of the index. `location`: its file. `vector`: (dim,) float32 unit, as it is stored."""

    study: Study
    location: str
    view: str | None
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OwnImages:
    """Images of subjects new to the encoder, in an order that no property of them decides.

    `seen`: number of images left out because the encoder was trained on their subjects.
    """

    images: tuple[OwnImage, ...]
    seen: int

    @property
    def known(self) -> tuple[OwnImage, ...]:
        """The images with known findings."""
        return tuple(image for image in self.images if image.study.findings)

    def one_each(self) -> tuple[OwnImage, ...]:
        """Return one image with known findings of each subject: subjects are exchangeable, a subject's images
        are not.
        """
        first: dict[str, OwnImage] = {}
        for image in self.known:
            first.setdefault(image.study.subject_id, image)
        return tuple(first.values())


def own_images(index: Index, most: int = MOST_IMAGES, *, new_only: bool = True) -> OwnImages:
    """Return images of the active version, at most `most`.

    Args:
        index: the index.
        most: how many.
        new_only: leave out subjects that the encoder was trained on.

    Raises:
        EmptyIndex: nothing was indexed yet.
    """
    stored = index.catalog.images_of_version(index.active_version.fingerprint)
    subjects = {image.subject_id for image in stored}
    seen = overlapping_subjects(index.encoder.record, subjects) if new_only else frozenset()
    new = [image for image in stored if image.subject_id not in seen]
    chosen = new[:most]
    vectors = index.points("image", [image.point for image in chosen])
    studies = index.catalog.studies(image.study_id for image in chosen)
    images = tuple(
        OwnImage(studies[image.study_id], image.location or "", image.view, vectors[image.point].vector)
        for image in chosen
        if image.point in vectors and image.study_id in studies
    )
    return OwnImages(images, len(stored) - len(new))
