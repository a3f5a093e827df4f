"""The source image of an answer: the header that a derived DICOM object repeats, and the pixel spacing.

Of the patient and the study, only the elements that every DICOM instance must carry are repeated (PS3.3
C.7.1.1 and C.7.2.1, types 1 and 2); everything else in the source's header stays where it is.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID
from pydicom.valuerep import DA, TM

from corpus.dicom.elements import text_of
from corpus.dicom.file import Undecodable, is_dicom, parse
from corpus.dicom.spacing import Spacing, lengths_of, orientation_of, spacing_of
from corpus.errors import ExportError
from corpus.files import UnreadableFile, quoted, read_bytes
from corpus.geometry import AS_STORED, Orientation
from corpus.redaction import redacted
from corpus.settings import settings

_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_OF_THE_IMAGE = ("Modality", "FrameOfReferenceUID", "PatientOrientation")
_UNICODE = "ISO_IR 192"
_MAX_BYTES_PER_PIXEL = 8
_MAX_DEFLATED = 1 << 30


@redacted
@dataclass(frozen=True, slots=True)
class SourceImage:
    """A DICOM image that an answer is about.

    `header`: only the elements that a derived object repeats.

    `rows`, `columns`, `spacing`: of the image as it is stored.
    `hanging`: how it is shown. An answer is about the shown image, a derived object lies on the stored one.
    """

    header: Dataset
    rows: int
    columns: int
    spacing: Spacing | None
    hanging: Orientation = AS_STORED

    def as_json(self) -> dict[str, Any]:
        """The form in which it leaves the decoding process; `from_json` reads it."""
        return {
            "header": self.header.to_json_dict(),
            "rows": self.rows,
            "columns": self.columns,
            "spacing": None if self.spacing is None else asdict(self.spacing),
            "hanging": asdict(self.hanging),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "SourceImage":
        """Read what `as_json` wrote."""
        spacing = record["spacing"]
        return cls(
            Dataset.from_json(record["header"]),
            record["rows"],
            record["columns"],
            None if spacing is None else Spacing(**spacing),
            Orientation(**record["hanging"]),
        )


def program_version() -> str:
    """The installed version of this program."""
    return version("similarity-engine")


def read_source(path: str | Path) -> SourceImage:
    """Read the header of the DICOM image that an answer refers to.

    Raises:
        ExportError: the file is missing, not DICOM, broken, or lacks an identifier that a reference needs.
    """
    try:
        content = read_bytes(path, limit=settings().max_image_pixels * _MAX_BYTES_PER_PIXEL)
    except UnreadableFile as reason:
        raise ExportError(f"the source image {quoted(path)} {reason}") from reason
    return source_of(content, quoted(path))


def source_of(content: bytes, name: str) -> SourceImage:
    """Read the header of a DICOM image that is in memory.

    Args:
        content: the whole file.
        name: of the image in messages.

    Raises:
        ExportError: as `read_source`.
    """
    if not is_dicom(content):
        raise ExportError(
            f"{name} is no DICOM file: DICOM SEG and Secondary Capture refer to a DICOM image by its UIDs; "
            "other images are exported as PNG and run lengths"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of every oddity of a header
            return _source_of(parse(content, max_bytes=_MAX_DEFLATED, stop_before_pixels=True), name)
    except Undecodable as reason:
        raise ExportError(f"the source image {name} {reason}") from reason


def _source_of(dataset: Dataset, name: str) -> SourceImage:
    # Text is written as Unicode, whatever the source's character set: the phrase may need letters it lacks.
    header = Dataset()
    header.SpecificCharacterSet = _UNICODE
    for keyword in _IDENTITY:
        value = text_of(dataset, keyword)
        if not value or not UID(value).is_valid:
            raise ExportError(f"{name} has no valid {keyword}, so that nothing can refer to it")
        setattr(header, keyword, value)
    for keyword in _REQUIRED:
        setattr(header, keyword, _required(dataset, keyword))
    for keyword in _OF_THE_IMAGE:
        if keyword in dataset:
            header[keyword] = copy.deepcopy(dataset[keyword])
    try:
        header.Rows, header.Columns = rows, columns = int(dataset.Rows), int(dataset.Columns)
    except Exception as error:  # absent, or of a type that cannot be read
        raise ExportError(f"{name} does not state its rows and columns") from error
    lengths = lengths_of(dataset, "PixelSpacing")
    if lengths is not None:
        header.PixelSpacing = list(lengths)
    return SourceImage(header, rows, columns, spacing_of(dataset), orientation_of(dataset)[0])


def _required(dataset: Dataset, keyword: str) -> str:
    """The text of a required element; empty where the source has none, or an invalid one."""
    text = text_of(dataset, keyword)
    try:
        if keyword == "PatientSex":
            return text if text in ("M", "F", "O") else ""
        if keyword.endswith("Date"):
            DA(text)  # raises where it is none
        if keyword.endswith("Time"):
            TM(text)
    except ValueError:
        return ""
    return text
