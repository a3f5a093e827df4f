"""DICOM Segmentation (PS3.3 A.51): masks that lie on the source image in a PACS or a viewer.

One file holds one segment a phrase, binary, on the source's own pixel grid: a mask of an image that was
turned or mirrored to be shown is turned back. A radiograph has no place in the patient's frame of reference,
so the segments refer to the image itself, by its UIDs.
"""

import io
from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from corpus.errors import ExportError
from corpus.findings import VOCABULARY
from retrieval.export.equipment import discreet, equipment, printable
from retrieval.export.source import Source, program_version
from retrieval.localize.answer import Localization

_ANY_REGION: Code = codes.SCT.MorphologicallyAbnormalStructure

_SERIES_NUMBER = 9_001
_SERIES = "Segmentation by research software, not for diagnosis"

_THICKNESS = 1.0
"""Millimetres. A projection has no slices, but a reader takes spacing and thickness together: a file with the
source's spacing alone cannot be read back."""


def segmentation(source: Source, localizations: Sequence[Localization], fingerprint: str) -> bytes:
    """Make a DICOM SEG that refers to its source image.

    Args:
        source: as `retrieval.export.source.read_source` gives it.
        localizations: of that image as it is shown; those without a mask are left out. Segment numbers begin
            at 1.
        fingerprint: of the encoder that localized, 64 hex digits.

    Returns:
        The whole file, Explicit VR Little Endian.

    Raises:
        ExportError: there is no mask at all, or one does not fit the source's rows and columns.
    """
    shown = [one for one in localizations if one.mask is not None and one.mask.any()]
    if not shown:
        raise ExportError("there is no mask to write as DICOM SEG: nothing was localized")
    masks = np.stack([_fitting(source, one) for one in shown], axis=-1)
    with discreet():
        made = hd.seg.Segmentation(
            source_images=[source.header],
            pixel_array=masks[np.newaxis],
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(n, one, fingerprint) for n, one in enumerate(shown, 1)],
            series_instance_uid=hd.UID(),
            series_number=_SERIES_NUMBER,
            series_description=_SERIES,
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


def _fitting(source: Source, localization: Localization) -> NDArray[np.uint8]:
    mask = source.hanging.undo(np.asarray(localization.mask))
    if mask.shape != (source.rows, source.columns):
        raise ExportError(
            f"the mask has {mask.shape[0]} x {mask.shape[1]} pixels, its source image {source.rows} x "
            f"{source.columns}: it is of another picture, or the source has changed; localize it again"
        )
    return mask.astype(np.uint8)


def _measures(source: Source) -> hd.PixelMeasuresSequence | None:
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
