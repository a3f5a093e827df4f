"""The records a corpus is made of: studies, their pictures and their reports.

A corpus is an iterable of studies. A set of pictures without text has `report=None`, a set of text without
pictures has `images=()`: nothing downstream may assume a pair.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

from corpus.findings import Statuses
from corpus.redaction import redacted

View = Literal["pa", "ap", "ap_supine", "lateral", "other"]
Sex = Literal["F", "M", "O"]
AttributeValue = str | float | int | bool
ItemState = Literal["failed", "skipped", "missing", "noted"]


@redacted
@dataclass(frozen=True, slots=True)
class ImageRef:
    """One picture of a study, not yet read.

    `location` is where its pixels come from: an absolute file path, or `phantom://SEED/NUMBER` for a
    picture that is drawn rather than stored. `corpus.images.reader.read_image(location)` gives the pixels.
    `item_id` is `<study_id>#<image file stem>`: unique in its study, with no folder in it. `instance_uid`:
    the SOPInstanceUID of a DICOM file, which one image bears; the index has `instance_key`, its keyed hash.
    """

    item_id: str
    location: str
    view: View | None = None
    modality: str | None = None
    instance_uid: str | None = None
    instance_key: str | None = None


DESCRIBING = ("findings", "impression", "body", "addendum")
"""Names of the sections that say what the image shows."""


@redacted
@dataclass(frozen=True, slots=True)
class Section:
    """One part of a report.

    `name` is lower case: findings, impression, indication, comparison, body, addendum, preliminary, …
    """

    name: str
    text: str


@redacted
@dataclass(frozen=True, slots=True)
class Report:
    """A report, cut into sections. `item_id` is `<study_id>#report`.

    `language`: ISO 639-1 code of what it is written in (`corpus.language.detection`); None where nobody
    looked.
    `findings_read`: False in a language that has no lexicon: it then says nothing of findings.
    """

    item_id: str
    sections: tuple[Section, ...]
    language: str | None = "en"
    findings_read: bool = True

    @property
    def text(self) -> str:
        """The whole report as a person reads it, a heading before each named section."""
        return "\n".join(
            section.text if section.name == "body" else f"{section.name.upper()}: {section.text}"
            for section in self.sections
        )

    def section(self, name: str) -> str:
        """The text of the sections of that name, joined; empty when the report has none."""
        return " ".join(section.text for section in self.sections if section.name == name)

    @property
    def described(self) -> str:
        """What the report says of the film: findings, impression and addenda, or the unsectioned text.

        This is what is embedded. Indication, comparison and technique speak of something else.
        """
        told = [s.text for s in self.sections if s.name in DESCRIBING]
        return " ".join(told)


@redacted
@dataclass(frozen=True, slots=True)
class Study:
    """One examination of one person.

    `findings` is what the film shows (present, absent, uncertain; what is not in it is unmentioned);
    `diagnosis` is what it turned out to be, and stays apart. `age` in years; `date` is ISO 8601.
    `attributes` are a table's own columns, kept for filters. `birth_date` (ISO 8601) stays
    with the source: the index has `birth_key`, a keyed hash of it, to tell apart patients of one patient id.
    `replaces`: ids that its report had as a study without images, while no image claimed it.
    `shared_key`: the key of its patient id, where several patients have that id and nothing tells of which of
    them the study is: it is then a subject of its own.
    `identifiers`: further ids of its record that a report may repeat (de-identification takes them out).
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
    """An item that did not become part of a study, and why; or one that did, and not as its file says.

    `failed`: it is broken; `skipped`: it is whole but not admitted; `missing`: a table lists it and the
    folder does not have it; `noted`: it is part of its study, but something of it is in doubt: whose it is,
    what its header says.
    `item_id` is the id it has, or would have had.
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
        """Yield every study; hand what cannot be one to `on_problem`, and go on."""
        ...
