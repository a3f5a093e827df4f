"""The header of a DICOM file: patient, study, dates, modality and view. The pixels are not read."""

import io
import re
import warnings
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian

from corpus.demographics import parse_view
from corpus.dicom.file import Undecodable, is_dicom, parse
from corpus.files import open_regular, read_bytes
from corpus.records import View
from corpus.redaction import redacted

_TAGS = (
    "StudyInstanceUID", "SOPInstanceUID", "PatientID", "AccessionNumber", "Modality", "BodyPartExamined",
    "ViewPosition", "ViewCodeSequence", "StudyDate", "PatientAge", "PatientBirthDate", "PatientSex",
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "MediaStorageSOPClassUID",
)  # fmt: skip
# Those with one value by the standard (PS3.6), as texts that a backslash can split in two.
_SINGLE = (
    "PatientID", "Modality", "BodyPartExamined", "ViewPosition", "StudyDate", "PatientAge",
    "PatientBirthDate", "PatientSex", "IssuerOfPatientID",
)  # fmt: skip
_MAX_DEFLATED = 1 << 30
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

# Defined terms of body parts (PS3.16 annex L) that no chest image has. The element is often empty or too
# wide, so only a plain contradiction counts.
_OTHER_PARTS = re.compile(
    r"HAND|FINGER|THUMB|WRIST|FOREARM|ELBOW|HUMERUS|UPPERARM|FOOT|TOE|HEEL|CALCANEUS|ANKLE|LOWERLEG|TIBIA"
    r"|KNEE|PATELLA|FEMUR|THIGH|HIP|PELVIS|SKULL|HEAD|BRAIN|FACE|JAW|MANDIBLE|TEETH|SINUS|ORBIT|BREAST|LSPINE"
    r"|CSPINE|SACRUM|COCCYX|BLADDER|KIDNEY|ABDOMEN"
)
_CHEST = re.compile(r"CHEST|THORAX|LUNG|RIB|HEART|STERN|CLAVICLE")


# PS3.16 CID 4010, by SNOMED CT code and by the older SNOMED RT and SNOMED 3 code.
_VIEWS: dict[str, View | None] = {
    "272479007": "pa", "R-10214": "pa", "R-40888": "pa",
    "399348003": "ap", "R-10206": "ap",
    "399067008": "lateral", "R-102CD": "lateral",
    "399198007": "lateral", "R-10232": "lateral",
    "399173006": "lateral", "R-10236": "lateral",
    "399033003": None, "R-10202": None,  # frontal, PA or AP unknown
}  # fmt: skip
_SNOMED = frozenset({"SCT", "SRT", "SNM3", "99SDM", ""})


@dataclass(frozen=True, slots=True)
class ViewCode:
    """An item of ViewCodeSequence: CodeValue, CodingSchemeDesignator and CodeMeaning, empty where absent."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class ImageView:
    """The view of an image.

    `view`: None where it is unknown.
    `conflict`: two elements of its header name different views, as a clause.
    """

    view: View | None
    conflict: str | None = None


def view_of(position: str, codes: tuple[ViewCode, ...]) -> ImageView:
    """Return the view by ViewPosition (0018,5101), else by ViewCodeSequence (0054,0220).

    The second decides where the first is absent or in unknown words. Where both name a view and not the same
    one, ViewPosition is taken: a technologist sees and corrects it. A code with a meaning of another view is
    ignored (both spellings of PA and AP have been seen under the other's code).
    """
    written = parse_view(position)
    coded: set[View | None] = set()
    for code in codes:
        known, spelled = _by_value(code), parse_view(code.meaning)
        if known is not None and spelled not in (None, "other", known):
            return ImageView(written, "its ViewCodeSequence has a code and a meaning of different views")
        coded.add(known or spelled)
    coded.discard(None)
    found = coded.pop() if len(coded) == 1 else None
    if written is None or (written == "other" and found is not None):
        return ImageView(found)
    same = found is None or found == written or (found, written) == ("ap", "ap_supine")
    if same or found == "other":
        return ImageView(written)
    return ImageView(written, f"its ViewPosition says {written} and its ViewCodeSequence {found}")


def _by_value(code: ViewCode) -> View | None:
    return _VIEWS.get(code.value) if code.scheme.upper() in _SNOMED else None


@redacted
@dataclass(frozen=True, slots=True)
class Header:
    """The elements of a study, as written, empty where absent.

    `patient_ids`, `accessions`: all values.
    `issuer`: IssuerOfPatientID, else the universal entity id of its qualifiers (PS3.3 10.14).
    `age`: `PatientAge`, or the years between `PatientBirthDate` and `StudyDate` where it is absent.
    `repeated`: elements with one value by the standard and several in the file; the first is used.
    The repr shows no patient data.
    """

    study_uid: str
    instance_uid: str
    patient_ids: tuple[str, ...] = field(repr=False)
    issuer: str = field(repr=False)
    accessions: tuple[str, ...] = field(repr=False)
    modality: str
    body_part: str
    view: str
    view_codes: tuple[ViewCode, ...]
    date: str = field(repr=False)
    age: str = field(repr=False)
    sex: str = field(repr=False)
    birth_date: str = field(repr=False)
    repeated: tuple[str, ...] = ()

    @property
    def patient_id(self) -> str:
        """The patient id, the first of several."""
        return next(iter(self.patient_ids), "")


def read_header(path: str | Path) -> Header:
    """Read the header of a DICOM file.

    Raises:
        UnreadableFile: the file cannot be read at all.
        Undecodable: it is not DICOM, is broken, or is a directory of a medium.
    """
    head = read_bytes(path, head=1024)
    if not is_dicom(head):
        raise Undecodable("is no DICOM file, whatever its name says")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every oddity of a header
        if DeflatedExplicitVRLittleEndian.encode() in head:
            dataset = parse(read_bytes(path), max_bytes=_MAX_DEFLATED, stop_before_pixels=True)
        else:
            with open_regular(path) as file:
                dataset = _read_tags(file)
        return _checked(dataset)


def parse_header(content: bytes) -> Header:
    """Read the header of a DICOM file that is in memory.

    Raises:
        Undecodable: as `read_header`.
    """
    if not is_dicom(content[:1024]):
        raise Undecodable("is no DICOM file, whatever its name says")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if DeflatedExplicitVRLittleEndian.encode() in content[:1024]:
            return _checked(parse(content, max_bytes=_MAX_DEFLATED, stop_before_pixels=True))
        return _checked(_read_tags(io.BytesIO(content)))


def _checked(dataset: Dataset) -> Header:
    if _text(dataset.file_meta, "MediaStorageSOPClassUID") == _MEDIA_DIRECTORY:
        raise Undecodable("is the directory of a DICOM medium, not an image")
    return _header_of(dataset)


def contradicts_chest(header: Header) -> str | None:
    """Return the body part that the header names, where it is certainly not the chest."""
    part = re.sub(r"[^A-Z]", "", header.body_part.upper())
    return part if _OTHER_PARTS.search(part) and not _CHEST.search(part) else None


def _read_tags(file: BinaryIO) -> Dataset:
    try:
        return pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(_TAGS))
    except Exception as error:  # pydicom raises many kinds on broken files
        raise Undecodable("is a broken or truncated DICOM file: copy it again from where it came") from error


def _header_of(dataset: Dataset) -> Header:
    study_date, born = _text(dataset, "StudyDate"), _text(dataset, "PatientBirthDate")
    return Header(
        study_uid="\\".join(_values(dataset, "StudyInstanceUID")),  # two of them are invalid
        instance_uid="\\".join(_values(dataset, "SOPInstanceUID")),
        patient_ids=_values(dataset, "PatientID"),
        issuer=_issuer(dataset),
        accessions=_values(dataset, "AccessionNumber"),
        modality=_text(dataset, "Modality").upper(),
        body_part=_text(dataset, "BodyPartExamined"),
        view=_text(dataset, "ViewPosition"),
        view_codes=tuple(
            ViewCode(*(_text(item, f"Code{part}") for part in ("Value", "ingSchemeDesignator", "Meaning")))
            for item in _items(dataset, "ViewCodeSequence")
        ),
        date=study_date,
        age=_text(dataset, "PatientAge") or _age_between(born, study_date),
        sex=_text(dataset, "PatientSex"),
        birth_date=born,
        repeated=tuple(name for name in _SINGLE if len(_values(dataset, name)) > 1),
    )


def _issuer(dataset: Dataset) -> str:
    qualifiers = _items(dataset, "IssuerOfPatientIDQualifiersSequence")
    named = (_text(item, "UniversalEntityID") for item in qualifiers)
    return _text(dataset, "IssuerOfPatientID") or next(filter(None, named), "")


def _text(dataset: Dataset, keyword: str) -> str:
    """Return an element's first value without padding; empty where it is absent or cannot be read."""
    return next(iter(_values(dataset, keyword)), "")


def _values(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return an element's values (PS3.5 6.4) without padding and without empty ones."""
    try:
        value = dataset.get(keyword)
        values = value if isinstance(value, MultiValue) else () if value is None else (value,)
        return tuple(text for one in values if (text := str(one).strip(" \0")))
    except Exception:  # an element of a wrong type is as good as none
        return ()


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; empty where it is absent or cannot be read."""
    try:
        return list(dataset.get(keyword) or ())
    except Exception:  # as above
        return []


def _age_between(born: str, seen: str) -> str:
    try:
        days = (date.fromisoformat(seen) - date.fromisoformat(born)).days
    except ValueError:
        return ""
    return str(round(days / 365.25, 2)) if days >= 0 else ""
