"""DICOM Secondary Capture (PS3.3 A.8.1): the overlay as a picture for any viewer, SEG or not."""

import io

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from retrieval.export.equipment import discreet, equipment, printable
from retrieval.export.overlay import drawn_size
from retrieval.export.source import Source

_SERIES_NUMBER = 9_002
_SERIES = "Overlay by research software, not for diagnosis"


def secondary_capture(source: Source, overlay: NDArray[np.uint8], phrase: str) -> bytes:
    """Make a Secondary Capture of an overlay, in its source image's study.

    Args:
        source: as `retrieval.export.source.read_source` gives it.
        overlay: (height, width, 3) uint8 RGB, as `retrieval.export.overlay.draw_overlay` gives it: "not for
            diagnosis" is part of its pixels; drawn in the geometry in which the source is stored.
        phrase: what was looked for; goes into the image comments.

    Returns:
        The whole file, Explicit VR Little Endian.
    """
    with discreet():
        made = hd.sc.SCImage.from_ref_dataset(
            source.header,
            pixel_array=overlay,
            photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
            bits_allocated=8,
            coordinate_system=hd.CoordinateSystemNames.PATIENT,
            patient_orientation=("L", "F"),  # the class asks for one; the source's own is set below
            pixel_spacing=_spacing(source),
            series_instance_uid=hd.UID(),
            series_number=_SERIES_NUMBER,
            series_description=_SERIES,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            specific_character_set=source.header.SpecificCharacterSet,
            **equipment(),
        )
        made.PatientOrientation = source.header.get("PatientOrientation") or ""
        # Text is in the pixels, ours and whatever the film had: who removes identities has to look at it.
        made.BurnedInAnnotation = "YES"
        made.DerivationDescription = "Film with the outline of a region found by research software"
        made.ImageComments = printable(f"Not for diagnosis. Looked for: {phrase}", most=1_000)
        made.SourceImageSequence = [_reference(source)]
        written = io.BytesIO()
        made.save_as(written)
    return written.getvalue()


def _spacing(source: Source) -> tuple[float, float] | None:
    """The source's own PixelSpacing in the pixels of the overlay, which is enlarged or reduced."""
    if "PixelSpacing" not in source.header:
        return None
    height, width = drawn_size((source.rows, source.columns))
    down, across = map(float, source.header.PixelSpacing)
    return round(down * source.rows / height, 8), round(across * source.columns / width, 8)


def _reference(source: Source) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.header.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.header.SOPInstanceUID
    return reference
