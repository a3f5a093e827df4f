"""The forms in which one localization leaves, each as the content of a file."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from corpus.errors import ExportError
from retrieval.export.source import Source
from retrieval.localize.answer import Localization

Form = Literal["overlay", "mask", "dicom_seg", "secondary_capture"]

FILES: Mapping[Form, str] = {
    "overlay": "overlay.png",
    "mask": "mask.png",
    "dicom_seg": "seg.dcm",
    "secondary_capture": "overlay.dcm",
}
"""What a file of each form is called."""


def forms(*, masked: bool, dicom: bool) -> tuple[Form, ...]:
    """The forms there are of an answer: an overlay always, a mask where there is one, and of that DICOM where
    the picture is DICOM."""
    if not masked:
        return ("overlay",)
    return ("overlay", "mask", "dicom_seg", "secondary_capture") if dicom else ("overlay", "mask")


def render(
    form: Form,
    image: NDArray[np.float32],
    answer: Localization,
    source: Source | None,
    fingerprint: str,
) -> bytes:
    """Make the content of a file.

    Args:
        form: which.
        image: (height, width) float32 in [0, 1], as shown. PNG files are of it; DICOM files lie as their
            source is stored.
        answer: about this picture.
        source: of a picture that is DICOM, else None.
        fingerprint: of the encoder that localized, 64 hex digits.

    Raises:
        ExportError: the answer has no mask, or the picture is no DICOM, and the form needs it.
    """
    from retrieval.export.overlay import draw_overlay, png  # late: who only names forms draws nothing

    if form != "overlay" and answer.mask is None:
        raise ExportError(f"there is no mask to save. {answer.reason}")
    if form == "mask" and answer.mask is not None:
        return png(answer.mask)
    spacing = None if source is None else source.spacing
    if form == "overlay":
        hung = None if source is None or spacing is None else spacing.hung(source.hanging)
        return png(draw_overlay(image, answer, heat=True, spacing=hung))
    if source is None:
        raise ExportError("the picture is no DICOM file, to which a DICOM file of ours could refer")
    if form == "dicom_seg":
        from retrieval.export.dicom_seg import segmentation  # late: takes a second

        return segmentation(source, [answer], fingerprint)
    from retrieval.export.secondary_capture import secondary_capture  # late, as above

    overlay = draw_overlay(image, answer, heat=True, spacing=spacing, hanging=source.hanging)
    return secondary_capture(source, overlay, answer.phrase)
