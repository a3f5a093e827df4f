"""`similarity index calibrate`: fits on the index's own images what `retrieval.reliability.apply` applies.

Three things are fitted, and stored beside the version of the index: the out-of-distribution detector
(`ood`, stored as "gate"), the conformal guarantee (`conformal`), and the weights of a draft's votes
(`retrieval.draft.votes`). Each is missing where there are too few images or subjects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus.errors import CorpusError
from corpus.images.reader import read_image
from corpus.progress import OnProgress, silent
from indexer.index import Index
from retrieval.draft.votes import MIN_CALIBRATION_IMAGES, calibrate_votes
from retrieval.query.query import TARGETS, Query
from retrieval.reliability import ood
from retrieval.reliability.conformal import (
    FEWEST_SUBJECTS,
    MOST_HITS,
    LabelledSearch,
    fit_guarantee,
    leaf_findings,
)
from retrieval.reliability.own_images import OwnImage, OwnImages, own_images
from retrieval.search import search_vector

_BATCH = 32  # images that go through the backbone together


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What was fitted.

    Attributes:
        images: number of images that could be fitted on.
        subjects: number of subjects with an image of known findings.
        overlapping: number of images left out because of training overlap: the encoder was trained on their
            subjects.
        missing: what could not be fitted, each with the reason.
    """

    images: int
    subjects: int
    overlapping: int
    missing: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The form of `docs/contracts/index-calibrate.schema.json`."""
        kinds = ("gate", "guarantee", "votes")
        return {
            "films": self.images,
            "people": self.subjects,
            "seen": self.overlapping,
            "learned": [kind for kind in kinds if kind not in self.missing],
            "missing": dict(self.missing),
        }


def calibrate(index: Index, on_progress: OnProgress = silent) -> CalibrationReport:
    """Fit detector, guarantee and votes on the index's own images, replacing what was fitted before.

    Raises:
        EmptyIndex: nothing was indexed yet.
        EncoderError: the encoder cannot be loaded.
    """
    new = own_images(index)
    one_per_subject = [image for image in new.one_each() if leaf_findings(image.study.findings)]
    guarantee = fit_guarantee(search_own(index, one_per_subject, on_progress))
    on_progress("votes", 0, len(new.known))
    votes = calibrate_votes(index, new.known)
    # The kind of an image has nothing to do with its subject: the detector is fitted on all subjects.
    everyone = own_images(index, ood.MOST_IMAGES, new_only=False).images
    detector = _fit_detector(index, everyone, on_progress)
    index.calibrations.keep(
        index.active_version.fingerprint,
        {
            "gate": None if detector is None else detector.as_json(),
            "guarantee": None if guarantee is None else guarantee.as_json(),
            "votes": None if votes is None else votes.as_json(),
        },
    )
    missing = {}
    if detector is None:
        count = len({image.study.subject_id for image in everyone})
        missing["gate"] = (
            f"{count} subject{'s' * (count != 1)} with images: at least {ood.FEWEST_SUBJECTS} are needed"
        )
    if guarantee is None:
        missing["guarantee"] = _too_few(len(one_per_subject), FEWEST_SUBJECTS, "subjects", new)
    if votes is None:
        missing["votes"] = _too_few(len(new.known), MIN_CALIBRATION_IMAGES, "images", new)
    return CalibrationReport(len(new.images), len(one_per_subject), new.seen, missing)


def _too_few(count: int, fewest: int, what: str, new: OwnImages) -> str:
    overlap = (
        f"; {new.seen} images do not count, because the encoder was trained on their subjects"
        if new.seen
        else ""
    )
    return f"{count} {what} with known findings: at least {fewest} are needed{overlap}"


def _fit_detector(
    index: Index, images: Sequence[OwnImage], on_progress: OnProgress
) -> ood.OutOfDistributionDetector | None:
    """Read images of the index again and fit the detector; one that cannot be read any more is skipped."""
    features: list[tuple[ood.Numbers, ood.Numbers]] = []
    subjects: list[str] = []
    for start in range(0, len(images), _BATCH):
        on_progress("gate", start, len(images))
        batch = [(image, _pixels(image)) for image in images[start : start + _BATCH]]
        read = [(image, pixels) for image, pixels in batch if pixels is not None]
        if read:
            features.append(ood.backbone_features(index.encoder, [pixels for _, pixels in read]))
            subjects += [image.study.subject_id for image, _ in read]
    if not features:
        return None
    upright, inverted = (np.concatenate(parts) for parts in zip(*features, strict=True))
    return ood.fit_detector(upright, inverted, subjects)


def _pixels(image: OwnImage) -> NDArray[np.float32] | None:
    try:
        return read_image(image.location)
    except CorpusError:
        return None


def search_own(
    index: Index, images: Sequence[OwnImage], on_progress: OnProgress
) -> dict[str, list[LabelledSearch]]:
    """Search for each image as if it were new, once for each target: target → searches."""
    searches: dict[str, list[LabelledSearch]] = {target: [] for target in TARGETS}
    for number, image in enumerate(images):
        on_progress("guarantee", number, len(images))
        for target in TARGETS:
            query = Query(image=image.location, target=target, k=MOST_HITS, subject=image.study.subject_id)
            answer = search_vector(index, query, "image", image.vector)
            hits = [leaf_findings(hit.case.findings) for hit in answer.hits]
            searches[target].append(LabelledSearch(leaf_findings(image.study.findings), hits))
    return searches
