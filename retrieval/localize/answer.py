"""Where a finding is: what leaves the program, in the shape of `docs/contracts/localize.schema.json`."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from corpus.dicom.spacing import Spacing
from corpus.errors import UsageError
from corpus.redaction import redacted
from retrieval.export.rle import encode_runs

Side = Literal["left", "right", "both"]
"""The patient's side: on a film that is shown as facing the viewer, the patient's right is on its left."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the image as read, columns `left` to `right`, rows `top` to `bottom`.

    `right` and `bottom` are exclusive.
    """

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """Its pixels."""
        return (self.right - self.left) * (self.bottom - self.top)

    def as_json(self) -> dict[str, int]:
        """The contract's form."""
        return {"left": self.left, "top": self.top, "right": self.right, "bottom": self.bottom}


@redacted
@dataclass(frozen=True, slots=True, eq=False)
class Localization:
    """Where one phrase is in one image.

    `phrase`: as it was asked. `finding`: the vocabulary's name where the phrase names one finding, else
    None. `method`: gradcam, gscorecam, m2ib, patches or segmenter. `refined_by`: `sam:<checkpoint>`,
    `random-walker`, or None. `heat`: (height, width) float32 in [0, 1], the raw map over the image as read,
    padding undone. `mask`: (height, width) bool, None where it is refused; `reason` then says why, in a
    sentence for the reader (it may also qualify a mask that is there). `specificity`: how much more the map
    answers to this phrase than to others, in [0, 1]; a mask is given from `threshold` on. `boxes`: of the
    mask's components, largest first. `side`: the patient's. `zone`: in words, "lower zone". `share`: of the
    lung, or of that half of the picture, that the mask covers, in [0, 1]; `words` tells all three in a phrase
    and says of what the share is. `spacing`: of the image's pixels, where it is known. `image`: (height,
    width) float32, the image itself, where the Python API keeps it for `overlay`.
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
    side: Side | None = None
    zone: str | None = None
    share: float | None = None
    words: str | None = None
    spacing: Spacing | None = None
    image: NDArray[np.float32] | None = None

    @property
    def map(self) -> NDArray[np.float32]:
        """The raw map: `heat`."""
        return self.heat

    def overlay(self, *, heat: bool = False) -> NDArray[np.uint8]:
        """Return the image with the outline of the mask, or with the reason why there is none.

        Args:
            heat: lay the map over the image, too.

        Returns:
            (height', width', 3) uint8 RGB, see `retrieval.export.overlay.draw_overlay`.

        Raises:
            UsageError: the image was not kept with this answer.
        """
        from retrieval.export.overlay import draw_overlay  # late: it imports this module

        if self.image is None:
            raise UsageError("this answer does not hold its image: draw it by retrieval.export.overlay")
        return draw_overlay(self.image, self, heat=heat, spacing=self.spacing)

    def _repr_html_(self) -> str:
        from retrieval.notebook import localization_html  # late: no search needs it

        return localization_html(self)

    def as_json(self) -> dict[str, Any]:
        """The contract's form: the mask as run lengths (`retrieval.export.rle`), no arrays."""
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
        """Millimetres: of a pixel, and of the largest box; where the former is unknown, sizes are assumed."""
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
