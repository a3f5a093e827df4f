"""The records of a corpus: studies, their images and reports, and the ids of these items.

A corpus is an iterable of studies. Image-only sets have `report=None`, text-only sets have `images=()`:
nothing downstream may assume a pair.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Protocol

from corpus.findings import Statuses
from corpus.redaction import redacted

View = Literal["pa", "ap", "ap_supine", "lateral", "other"]
Sex = Literal["F", "M", "O"]
AttributeValue = str | float | int | bool
ItemState = Literal["failed", "skipped", "missing", "noted"]


class ItemKind(StrEnum):
    """What an indexed vector stands for. The values are stored on disk and shown in JSON."""

    IMAGE = "image"
    REPORT = "report"
    SENTENCE = "sentence"  # of a report, for embeddings
    TERM = "term"  # the affirmed words of a report, for BM25
    PATCH = "patch"  # the patch vectors of an image


@redacted
@dataclass(frozen=True, slots=True)
class ItemId:
    """The id of an image, a report or a sentence; `text` is its stored form, without any path.

    `study_id`: the study's id, `<source>:<name in the set>`.
    `kind`: `IMAGE`, `REPORT` or `SENTENCE`; terms and patches have the id of their report or image.
    `name`: an image's file stem, unique in its study; empty for texts.
    `position`: a sentence's index in `corpus.language.sections.sentences`; None for images and reports.

    Example:
        >>> ItemId.sentence("openi:1000", 2).text
        'openi:1000#report.2'
        >>> ItemId.parse("openi:1000#report.2").position
        2
    """

    study_id: str
    kind: ItemKind
    name: str = ""
    position: int | None = None

    @classmethod
    def image(cls, study_id: str, name: str) -> "ItemId":
        """Return the id of an image, `<study_id>#<name>`."""
        return cls(study_id, ItemKind.IMAGE, name)

    @classmethod
    def report(cls, study_id: str) -> "ItemId":
        """Return the id of a study's report, `<study_id>#report`."""
        return cls(study_id, ItemKind.REPORT)

    @classmethod
    def sentence(cls, study_id: str, position: int) -> "ItemId":
        """Return the id of a sentence, `<study_id>#report.<position>`."""
        return cls(study_id, ItemKind.SENTENCE, position=position)

    @classmethod
    def parse(cls, text: str) -> "ItemId":
        """Read an id from its stored form, split at the last `#`; an image called `report` reads as a report.

        Raises:
            ValueError: the text has no `#`.
        """
        study_id, hash_sign, item = text.rpartition("#")
        if not hash_sign:
            raise ValueError(f"{text!r} is no item id: expected <study_id>#<item>")
        if item == _REPORT:
            return cls.report(study_id)
        position = item.removeprefix(f"{_REPORT}.")
        if _POSITION.fullmatch(position) and position != item:
            return cls.sentence(study_id, int(position))
        return cls.image(study_id, item)

    @property
    def text(self) -> str:
        """The stored form, `<study_id>#<item>`."""
        if self.kind is ItemKind.IMAGE:
            return f"{self.study_id}#{self.name}"
        position = "" if self.position is None else f".{self.position}"
        return f"{self.study_id}#{_REPORT}{position}"


def study_of(item_id: str) -> str:
    """Return the study id in an item's stored id, as `ItemId.parse`; a text without `#` is a study's id.

    Example:
        >>> study_of("manifest:a#b#report")
        'manifest:a#b'
    """
    return item_id.rpartition("#")[0] or item_id


_REPORT = "report"
_POSITION = re.compile(r"0|[1-9][0-9]{0,8}")


@redacted
@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image of a study, not yet read.

    `item_id`: `<study_id>#<image file stem>`, unique in its study, without a folder.
    `location`: absolute file path, or `phantom://SEED/NUMBER` for a phantom, which is drawn when it is read;
    `corpus.images.reader.read_image(location)` returns the pixels.
    `view`: projection, None where unknown.
    `modality`: DICOM's (0008,0060), None where unknown.
    `instance_uid`: SOPInstanceUID of a DICOM file.
    `instance_key`: keyed hash of the SOPInstanceUID; the index stores this one only.
    """

    item_id: str
    location: str
    view: View | None = None
    modality: str | None = None
    instance_uid: str | None = None
    instance_key: str | None = None


DESCRIBING = ("findings", "impression", "body", "addendum")
"""Names of the sections that describe the image."""


@redacted
@dataclass(frozen=True, slots=True)
class Section:
    """One section of a report.

    `name`: lower case: findings, impression, indication, comparison, body, addendum, preliminary, ….
    `text`: without its heading.
    """

    name: str
    text: str


@redacted
@dataclass(frozen=True, slots=True)
class Report:
    """A report, split into sections.

    `item_id`: `<study_id>#report`.
    `sections`: in the order of the text.
    `language`: ISO 639-1 code (`corpus.language.detection`); None where it was not detected.
    `findings_read`: False where the language has no lexicon, so that no findings are read from the report.
    """

    item_id: str
    sections: tuple[Section, ...]
    language: str | None = "en"
    findings_read: bool = True

    @property
    def text(self) -> str:
        """The whole report for display, a heading before each named section."""
        return "\n".join(
            section.text if section.name == "body" else f"{section.name.upper()}: {section.text}"
            for section in self.sections
        )

    def section(self, name: str) -> str:
        """The text of the sections of that name, joined; empty when the report has none."""
        return " ".join(section.text for section in self.sections if section.name == name)

    @property
    def described(self) -> str:
        """The text that describes the image: findings, impression and addenda, or the unsectioned body.

        This text is embedded. Indication, comparison and technique describe other things.
        """
        return " ".join(section.text for section in self.sections if section.name in DESCRIBING)


@redacted
@dataclass(frozen=True, slots=True)
class Study:
    """One examination of one subject.

    `study_id`: `<source>:<name in the set>`.
    `subject_id`: the subject's key (`corpus.subjects.subject_key`).
    `source`: kind of source, `openi`, `dicom`, ….
    `images`: in the order of the source; empty in text-only sets.
    `report`: None in image-only sets.
    `findings`: what the images show (present, absent, uncertain); a finding without an entry is unmentioned.
    `diagnosis`: the confirmed disease, separate from the findings.
    `age`: years. `date`: ISO 8601.
    `accession`, `study_uid`: DICOM's (0008,0050) and (0020,000D).
    `attributes`: a table's own columns, for filters.
    `birth_date`: ISO 8601; it stays with the source.
    `birth_key`: keyed hash of the birth date, by which the index separates patients of one patient id.
    `shared_key`: key of a patient id that several patients have, where the study cannot be assigned to one of
    them and is therefore a subject of its own.
    `identifiers`: further ids of the record that a report may repeat; de-identification removes them.
    `replaces`: ids that its report had as a study without images, before an image matched it.
    """

    study_id: str
    subject_id: str
    source: str
    images: tuple[ImageRef, ...] = ()
    report: Report | None = None
    findings: Statuses = field(default_factory=lambda: MappingProxyType({}))
    diagnosis: str | None = None
    age: float | None = None
    sex: Sex | None = None
    date: str | None = None
    accession: str | None = None
    study_uid: str | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=lambda: MappingProxyType({}))
    birth_date: str | None = field(default=None, repr=False)
    birth_key: str | None = field(default=None, repr=False)
    shared_key: str | None = field(default=None, repr=False)
    identifiers: tuple[str, ...] = field(default=(), repr=False)
    replaces: tuple[str, ...] = field(default=(), repr=False)


@redacted
@dataclass(frozen=True, slots=True)
class Problem:
    """Why an item is no part of a study, or in which respect a used item is doubtful.

    `item_id`: the id that the item has, or would have.
    `state`: `failed`, it is broken; `skipped`, it is intact but not admitted; `missing`, a table lists it and
    the folder lacks it; `noted`, it is used, but its subject or a value is in doubt, or a value that
    cannot be right is not used.
    `reason`: a clause or sentence without patient data.
    `location`: path of the file, for the local user only.
    """

    item_id: str
    state: ItemState
    reason: str
    location: str | None = None


ProblemSink = Callable[[Problem], None]


class Source(Protocol):
    """A set of studies that can be read again and again, in the same order."""

    @property
    def name(self) -> str:
        """The kind of source: `openi`, `dicom`, `manifest`, …"""
        ...

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        """Yield every study; report each item that cannot be used to `on_problem` and continue."""
        ...
