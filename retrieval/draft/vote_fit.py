"""Calibration of the draft's votes on the images of an index."""

from collections.abc import Mapping, Sequence

from corpus.findings import Status
from indexer.index import Index
from retrieval.draft.neighbours import KINDS, Kind
from retrieval.draft.votes import NAMES, VOTED_STATUSES, VoteCalibration, fit_vote_calibration, gather
from retrieval.reliability.own_images import OwnImage


def calibrate_votes(index: Index, images: Sequence[OwnImage]) -> VoteCalibration | None:
    """Fit what votes are worth, each image queried as if it were new; None where there are too few images.

    Args:
        index: that contains them.
        images: with known findings.
    """
    return fit_vote_calibration(
        [gather(index, image.vector, subjects=[image.study.subject_id]) for image in images],
        [image.study.findings for image in images],
        {kind: _prevalences(index, kind) for kind in KINDS},
    )


def _prevalences(index: Index, kind: Kind) -> Mapping[Status, Mapping[str, float]]:
    """Return each status's share for each finding, among studies with an item of `kind` and any finding."""
    counts = {status: dict.fromkeys(NAMES, 0) for status in VOTED_STATUSES}
    studies = 0
    for findings in index.catalog.findings_of_studies_with(kind):
        studies += bool(findings)
        for name, status in findings.items():
            if status in counts and name in counts[Status(status)]:
                counts[Status(status)][name] += 1
    return {
        status: {name: count / max(studies, 1) for name, count in of.items()} for status, of in counts.items()
    }
