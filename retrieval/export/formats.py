"""The formats of one exported localization, each as the content of a file."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpus.errors import ExportError
from retrieval.export.source import SourceImage
from retrieval.localize.answer import Localization

Form = Literal["overlay", "mask", "dicom_seg", "secondary_capture"]

FILES: Mapping[Form, str] = {
    "overlay": "overlay.png",
    "mask": "mask.png",
    "dicom_seg": "seg.dcm",
    "secondary_capture": "overlay.dcm",
}
"""The file name of each format."""


def forms(*, masked: bool, dicom: bool) -> tuple[Form, ...]:
    """The formats of an answer: an overlay always, a mask where there is one, and DICOM objects of that mask
    where the image is DICOM."""
    if not masked:
        return ("overlay",)
    return ("overlay", "mask", "dicom_seg", "secondary_capture") if dicom else ("overlay", "mask")


def render(
    form: Form,
    image: NDArray[np.float32],
    answer: Localization,
    source: SourceImage | None,
    fingerprint: str,
) -> bytes:
    """Return the content of a file.

    Args:
        form: the format.
        image: (height, width) float32 in [0, 1], as shown. PNG files lie like it; DICOM objects lie as
            their source is stored.
        answer: about this image.
        source: of a DICOM image, else None.
        fingerprint: of the encoder that localized, 64 hex digits.

    Raises:
        ExportError: the answer has no mask, or the image is not DICOM, and the format needs it.
    """
    from retrieval.export.drawing import png  # late: the formats are listed without drawing
    from retrieval.export.overlay import draw_overlay

    if form != "overlay" and answer.mask is None:
        raise ExportError(f"there is no mask to save. {answer.reason}")
    if form == "mask" and answer.mask is not None:
        return png(answer.mask)
    spacing = None if source is None else source.spacing
    if form == "overlay":
        oriented = None if source is None or spacing is None else spacing.oriented(source.hanging)
        return png(draw_overlay(image, answer, heat=True, spacing=oriented))
    if source is None:
        raise ExportError("the image is not a DICOM file, to which a DICOM object could refer")
    from retrieval.export.dicom_objects import secondary_capture, segmentation  # late: takes a second

    if form == "dicom_seg":
        return segmentation(source, [answer], fingerprint)
    overlay = draw_overlay(image, answer, heat=True, spacing=spacing, hanging=source.hanging)
    return secondary_capture(source, overlay, answer.phrase)
