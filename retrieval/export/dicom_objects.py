"""DICOM objects made from an answer: Segmentation (PS3.3 A.51) and Secondary Capture (PS3.3 A.8.1).

A Segmentation holds masks that lie on the source image in a PACS or a viewer: one binary segment per phrase,
on the source's own pixel grid, so that the mask of an image that was turned or mirrored to be shown is turned
back. A radiograph has no position in the patient's frame of reference; the segments refer to the image itself
by its UIDs. A Secondary Capture holds the overlay, for any viewer.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from corpus.errors import ExportError
from corpus.findings import VOCABULARY
from retrieval.export.drawing import drawn_size
from retrieval.export.source import SourceImage, program_version
from retrieval.localize.answer import Localization

# highdicom logs unusual names of patients; what a header holds is not for logs.
logging.getLogger("highdicom").setLevel(logging.CRITICAL)

_ANY_REGION: Code = codes.SCT.MorphologicallyAbnormalStructure

_SEGMENTATION_SERIES_NUMBER = 9_001
_SEGMENTATION_SERIES = "Segmentation by research software, not for diagnosis"

_CAPTURE_SERIES_NUMBER = 9_002
_CAPTURE_SERIES = "Overlay by research software, not for diagnosis"

_THICKNESS = 1.0
"""Millimetres. A projection has no slices, but a reader takes spacing and thickness together: a file with the
source's spacing alone cannot be read back."""


def segmentation(source: SourceImage, localizations: Sequence[Localization], fingerprint: str) -> bytes:
    """Return a DICOM Segmentation that refers to its source image.

    Args:
        source: as `retrieval.export.source.read_source` gives it.
        localizations: of that image as it is shown; those without a mask get no segment. Segment numbers
            begin at 1.
        fingerprint: of the encoder that localized, 64 hex digits.

    Returns:
        The whole file, Explicit VR Little Endian.

    Raises:
        ExportError: there is no mask at all, or one does not have the source's rows and columns.
    """
    shown = [one for one in localizations if one.mask is not None and one.mask.any()]
    if not shown:
        raise ExportError("there is no mask to write as DICOM SEG: nothing was localized")
    masks = np.stack([_stored_mask(source, one) for one in shown], axis=-1)
    with silenced():
        made = hd.seg.Segmentation(
            source_images=[source.header],
            pixel_array=masks[np.newaxis],
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(n, one, fingerprint) for n, one in enumerate(shown, 1)],
            series_instance_uid=hd.UID(),
            series_number=_SEGMENTATION_SERIES_NUMBER,
            series_description=_SEGMENTATION_SERIES,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            content_label="SIMILARITY",
            pixel_measures=_measures(source),
            transfer_syntax_uid=ExplicitVRLittleEndian,
            **equipment(),
        )
        written = io.BytesIO()
        made.save_as(written)
    return written.getvalue()


def _stored_mask(source: SourceImage, localization: Localization) -> NDArray[np.uint8]:
    """The mask on the source's pixel grid, (rows, columns)."""
    mask = source.hanging.undo(np.asarray(localization.mask))
    if mask.shape != (source.rows, source.columns):
        raise ExportError(
            f"the mask has {mask.shape[0]} x {mask.shape[1]} pixels, its source image {source.rows} x "
            f"{source.columns}: it is of another image, or the source has changed; localize it again"
        )
    return mask.astype(np.uint8)


def _measures(source: SourceImage) -> hd.PixelMeasuresSequence | None:
    if "PixelSpacing" not in source.header:
        return None
    down, across = map(float, source.header.PixelSpacing)
    return hd.PixelMeasuresSequence(pixel_spacing=(down, across), slice_thickness=_THICKNESS)


def _describe(number: int, localization: Localization, fingerprint: str) -> hd.seg.SegmentDescription:
    parameters = {"method": localization.method, "encoder": fingerprint}
    if localization.refined_by is not None:
        parameters["refined_by"] = printable(localization.refined_by)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=printable(localization.phrase) or "region",
        segmented_property_category=_ANY_REGION,
        segmented_property_type=_property(localization.finding),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="Similarity",
            family=codes.DCM.ArtificialIntelligence,
            version=f"{program_version()}+encoder.{fingerprint[:12]}",
            parameters=parameters,
        ),
    )


def _property(finding: str | None) -> Code:
    """What the segment shows: the finding's concept in UMLS, which the vocabulary has for every finding."""
    known = next((f for f in VOCABULARY.findings if f.name == finding), None)
    if known is None or not known.cuis:
        return _ANY_REGION
    return Code(known.cuis[0], "UMLS", known.name.replace("_", " "))


def secondary_capture(source: SourceImage, overlay: NDArray[np.uint8], phrase: str) -> bytes:
    """Return a Secondary Capture of an overlay, in its source image's study.

    Args:
        source: as `retrieval.export.source.read_source` gives it.
        overlay: (height, width, 3) uint8 RGB, as `retrieval.export.overlay.draw_overlay` gives it: "not for
            diagnosis" is part of its pixels; drawn in the geometry in which the source is stored.
        phrase: the phrase that was localized; goes into the image comments.

    Returns:
        The whole file, Explicit VR Little Endian.
    """
    with silenced():
        made = hd.sc.SCImage.from_ref_dataset(
            source.header,
            pixel_array=overlay,
            photometric_interpretation=hd.PhotometricInterpretationValues.RGB,
            bits_allocated=8,
            coordinate_system=hd.CoordinateSystemNames.PATIENT,
            patient_orientation=("L", "F"),  # the class requires one; the source's own is set below
            pixel_spacing=_spacing(source),
            series_instance_uid=hd.UID(),
            series_number=_CAPTURE_SERIES_NUMBER,
            series_description=_CAPTURE_SERIES,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            specific_character_set=source.header.SpecificCharacterSet,
            **equipment(),
        )
        made.PatientOrientation = source.header.get("PatientOrientation") or ""
        # Text is in the pixels, ours and whatever the image had: de-identification has to look at it.
        made.BurnedInAnnotation = "YES"
        made.DerivationDescription = "Radiograph with the outline of a region found by research software"
        made.ImageComments = printable(f"Not for diagnosis. Looked for: {phrase}", most=1_000)
        made.SourceImageSequence = [_reference(source)]
        written = io.BytesIO()
        made.save_as(written)
    return written.getvalue()


def _spacing(source: SourceImage) -> tuple[float, float] | None:
    """The source's own PixelSpacing in the pixels of the overlay, which is enlarged or reduced."""
    if "PixelSpacing" not in source.header:
        return None
    height, width = drawn_size((source.rows, source.columns))
    down, across = map(float, source.header.PixelSpacing)
    return round(down * source.rows / height, 8), round(across * source.columns / width, 8)


def _reference(source: SourceImage) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.header.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.header.SOPInstanceUID
    return reference


def equipment() -> dict[str, Any]:
    """Manufacturer, model and version (PS3.3 C.7.5.2), as highdicom's classes take them."""
    return {
        "manufacturer": "Similarity",
        "manufacturer_model_name": "Similarity, research software, not for diagnosis",
        "software_versions": program_version(),
        "device_serial_number": "none",
    }


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress warnings of highdicom and pydicom, which quote the patient's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def printable(phrase: str, most: int = 64) -> str:
    """A phrase as a DICOM long string (VR LO, PS3.5 6.2): one line, no backslash, shortened with an "…"."""
    line = " ".join("".join(c if c.isprintable() and c != "\\" else " " for c in phrase).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
