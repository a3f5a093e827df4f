"""The source image of an answer: what a DICOM made from it has to repeat, and how large its pixels are.

Of the patient and the study only those elements are taken that every DICOM instance must carry (PS3.3 C.7.1.1
and C.7.2.1, types 1 and 2); everything else in the source's header stays where it is.
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
from corpus.dicom.spacing import Spacing, hanging_of, lengths_of, spacing_of
from corpus.errors import ExportError
from corpus.files import UnreadableFile, quoted, read_bytes
from corpus.orientation import AS_STORED, Hanging
from corpus.redaction import redacted
from corpus.settings import settings

_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_OF_THE_PICTURE = ("Modality", "FrameOfReferenceUID", "PatientOrientation")
_UNICODE = "ISO_IR 192"
_MAX_BYTES_PER_PIXEL = 8
_MAX_DEFLATED = 1 << 30


@redacted
@dataclass(frozen=True, slots=True)
class Source:
    """A DICOM image that an answer is about: `header` holds only what an answer repeats of it.

    `rows`, `columns` and `spacing` are of the image as it is stored; `hanging` is how it is shown. An answer
    is about the shown image, what is made for the source lies on the stored one.
    """

    header: Dataset
    rows: int
    columns: int
    spacing: Spacing | None
    hanging: Hanging = AS_STORED

    def as_json(self) -> dict[str, Any]:
        """As it goes from the process that reads pictures to others; `from_json` reads it."""
        return {
            "header": self.header.to_json_dict(),
            "rows": self.rows,
            "columns": self.columns,
            "spacing": None if self.spacing is None else asdict(self.spacing),
            "hanging": asdict(self.hanging),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Source":
        """Read what `as_json` wrote."""
        spacing = told["spacing"]
        return cls(
            Dataset.from_json(told["header"]),
            told["rows"],
            told["columns"],
            None if spacing is None else Spacing(**spacing),
            Hanging(**told["hanging"]),
        )


def program_version() -> str:
    """The version of this program as it is installed."""
    return version("similarity-engine")


def read_source(path: str | Path) -> Source:
    """Read the header of the DICOM image that an answer refers to.

    Raises:
        ExportError: the file is gone, no DICOM, broken, or lacks an identifier that a reference needs.
    """
    try:
        content = read_bytes(path, limit=settings().max_image_pixels * _MAX_BYTES_PER_PIXEL)
    except UnreadableFile as reason:
        raise ExportError(f"the source image {quoted(path)} {reason}") from reason
    return source_of(content, quoted(path))


def source_of(content: bytes, name: str) -> Source:
    """The same of an image that is in memory.

    Args:
        content: the whole file.
        name: what messages call it.
    """
    if not is_dicom(content):
        raise ExportError(
            f"{name} is no DICOM file: DICOM SEG and Secondary Capture refer to a DICOM image by its UIDs; "
            "of other pictures there are PNG and run lengths"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of every oddity of a header
            return _source_of(parse(content, max_bytes=_MAX_DEFLATED, stop_before_pixels=True), name)
    except Undecodable as reason:
        raise ExportError(f"the source image {name} {reason}") from reason


def pixel_spacing(path: str | Path) -> Spacing | None:
    """How large a file's pixels are; None where it is no DICOM, or does not say."""
    try:
        return read_source(path).spacing
    except ExportError:
        return None


def _source_of(dataset: Dataset, name: str) -> Source:
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
    for keyword in _OF_THE_PICTURE:
        if keyword in dataset:
            header[keyword] = copy.deepcopy(dataset[keyword])
    try:
        header.Rows, header.Columns = rows, columns = int(dataset.Rows), int(dataset.Columns)
    except Exception as error:  # absent, or of a type that cannot be read
        raise ExportError(f"{name} does not say how many rows and columns it has") from error
    lengths = lengths_of(dataset, "PixelSpacing")
    if lengths is not None:
        header.PixelSpacing = list(lengths)
    return Source(header, rows, columns, spacing_of(dataset), hanging_of(dataset)[0])


def _required(dataset: Dataset, keyword: str) -> str:
    """An element that has to be there; empty where the source has none, or one that breaks the standard."""
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
