"""The answer of a localization, in the shape of `docs/contracts/localize.schema.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from corpus.dicom.spacing import Spacing
from corpus.errors import UsageError
from corpus.geometry import Box
from corpus.redaction import redacted

MaskLaterality = Literal["left", "right", "both"]
"""The patient's side that a mask is on. A radiograph is shown as if the patient faced the viewer: the
patient's right is on the left of the image."""


@redacted
@dataclass(frozen=True, slots=True, eq=False)
class Localization:
    """Where one phrase is in one image.

    `phrase`: as given.
    `finding`: the vocabulary's name, where the phrase names one finding; else None.
    `method`: gradcam, gscorecam, m2ib, patches or segmenter.
    `refined_by`: `sam:<checkpoint>`, `random-walker`, or None.
    `heat`: (height, width) float32 in [0, 1], the saliency map over the image as read, padding undone.
    `mask`: (height, width) bool; None where no mask is returned, and `reason` says why.
    `reason`: a sentence for the reader; beside a mask it qualifies the mask.
    `specificity`: in [0, 1], how much more the map answers to this phrase than to others.
    `threshold`: the specificity from which a mask is returned.
    `boxes`: of the mask's components, largest first, in pixels of the image as read.
    `side`: the patient's.
    `zone`: in words, "lower zone".
    `share`: of the lung, or of that half of the image, that the mask covers, in [0, 1].
    `words`: side, zone and share in one phrase that names what the share is of.
    `spacing`: millimetres of a pixel of the image, where they are known.
    `image`: (height, width) float32 in [0, 1], the image as read, where the Python API keeps
    it for `overlay`.
    """

    phrase: str
    finding: str | None
    method: str
    refined_by: str | None
    heat: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    reason: str | None
    specificity: float
    threshold: float
    boxes: tuple[Box, ...] = ()
    side: MaskLaterality | None = None
    zone: str | None = None
    share: float | None = None
    words: str | None = None
    spacing: Spacing | None = None
    image: NDArray[np.float32] | None = None

    @property
    def map(self) -> NDArray[np.float32]:
        """The saliency map: `heat`, (height, width) float32 in [0, 1]."""
        return self.heat

    @property
    def summary(self) -> str:
        """Where the mask is, or why there is none, in a phrase or sentence."""
        return (self.reason if self.mask is None else self.words) or ""

    def overlay(self, *, heat: bool = False) -> NDArray[np.uint8]:
        """Return the image with the outline of the mask, or with the reason why there is none.

        Args:
            heat: lay the map over the image, too.

        Returns:
            (height', width', 3) uint8 RGB, see `retrieval.export.overlay.draw_overlay`.

        Raises:
            UsageError: the image was not kept with this answer.
        """
        from retrieval.export.overlay import draw_overlay  # late: most answers are never drawn

        if self.image is None:
            raise UsageError("this answer does not hold its image: draw it by retrieval.export.overlay")
        return draw_overlay(self.image, self, heat=heat, spacing=self.spacing)

    def _repr_html_(self) -> str:
        from retrieval.export.drawing import image_html  # late: most answers are never drawn

        drawn = "" if self.image is None else image_html(self.overlay())
        return f"<div><p><b>{escape(self.phrase)}</b>: {escape(self.summary)}</p>{drawn}</div>"

    def as_json(self) -> dict[str, Any]:
        """The contract's form: the mask as run lengths (`encode_runs`), no arrays."""
        return {
            "phrase": self.phrase,
            "finding": self.finding,
            "method": self.method,
            "refined_by": self.refined_by,
            "specificity": round(self.specificity, 6),
            "threshold": round(self.threshold, 6),
            "reason": self.reason,
            "mask": None if self.mask is None else encode_runs(self.mask),
            "boxes": [box.as_json() for box in self.boxes],
            "side": self.side,
            "zone": self.zone,
            "share": None if self.share is None else round(self.share, 6),
            "words": self.words,
            **self._measured(),
        }

    def _measured(self) -> dict[str, Any]:
        """Millimetres of a pixel and of the largest box; sizes are assumed where the spacing is unknown."""
        if self.spacing is None:
            return {"pixel_spacing_mm": None, "spacing_source": "assumed", "size_mm": None}
        down, across = self.spacing.down, self.spacing.across
        box = self.boxes[0] if self.boxes else None
        return {
            "pixel_spacing_mm": [round(down, 6), round(across, 6)],
            "spacing_source": "detector" if self.spacing.at_detector else "patient",
            "size_mm": None
            if box is None
            else [round((box.bottom - box.top) * down, 1), round((box.right - box.left) * across, 1)],
        }


def encode_runs(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the run lengths of a mask: COCO's uncompressed form, which every annotation tool reads.

    Args:
        mask: (height, width) bool.

    Returns:
        `{"size": [height, width], "counts": [outside, inside, …]}`. The runs follow the columns from top to
        bottom, left to right, and alternate between outside and inside, outside first (COCO's "Data format",
        annotation `segmentation`).
    """
    flat = np.asarray(mask, dtype=np.bool_).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    borders = [0, *changes.tolist(), flat.size]
    counts = [after - before for before, after in pairwise(borders)]
    starts_inside = bool(flat.size and flat[0])
    return {"size": list(mask.shape), "counts": [0, *counts] if starts_inside else counts}


def decode_runs(runs: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the (height, width) mask that `encode_runs` encoded.

    Raises:
        UsageError: the runs do not fill a mask of that size.
    """
    try:
        height, width = (int(side) for side in runs["size"])
        counts = np.asarray(runs["counts"], dtype=np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError('a mask in run lengths is {"size": [height, width], "counts": […]}') from error
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
        raise UsageError(f"the run lengths do not fill a mask of {height} × {width} pixels")
    inside = np.arange(counts.size) % 2 == 1
    return np.repeat(inside, counts).reshape((height, width), order="F")
