"""What a query refers to: an image, with the studies and subjects that have it, or a case of the index."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corpus.errors import IndexingError, UsageError
from corpus.language.concepts import Concept
from corpus.redaction import redacted
from indexer.index import Index
from indexer.ingest.payload import payload_concepts
from retrieval.query.feedback import Tower, Vector
from retrieval.query.intent import case_concepts

if TYPE_CHECKING:
    from retrieval.query.image import QueryImage

_TOWERS: tuple[tuple[str, Tower], ...] = (("image", "image"), ("report", "text"))
"""Kind of item → the tower that embeds it."""


@redacted
@dataclass(frozen=True, slots=True, eq=False)
class IdentifiedImage:
    """An image of a query.

    Attributes:
        image: the image.
        subjects: subject_ids of the patient of its DICOM header, and of studies with equal pixels.
        studies: study_ids of the index that hold equal pixels.
    """

    image: "QueryImage"
    subjects: frozenset[str]
    studies: frozenset[str]


@redacted
@dataclass(frozen=True, slots=True)
class ReferencedCase:
    """A case of the index that a query refers to.

    Attributes:
        subject_id: its subject.
        vectors: its stored vectors, those of its images before that of its report.
        concepts: what it shows: the concepts of its report, then its other findings.
    """

    subject_id: str
    vectors: tuple[tuple[Tower, Vector], ...]
    concepts: tuple[Concept, ...]


def is_image(example: str) -> bool:
    """Return whether an example is the file of an image and not a study_id."""
    if example.startswith("phantom://"):
        return True
    try:
        return Path(example).exists()
    except (OSError, ValueError):
        return False


def identify_image(index: Index, image: "QueryImage") -> IdentifiedImage:
    """Find the subjects of an image, by equal pixels in the index and by its DICOM header."""
    from indexer.ingest.subject_identity import subjects_of  # late: DICOM, which no phrase needs

    with index.catalog.reading() as read:
        owners = read.owners_of_content(image.content)
    patient = image.patient
    header = subjects_of(index.catalog, index.home, patient) if patient is not None else frozenset()
    subjects = frozenset(header | {subject for _, subject in owners})
    return IdentifiedImage(image, subjects, frozenset(study for study, _ in owners))


def fetch_case(index: Index, study_id: str) -> ReferencedCase:
    """Fetch the stored vectors of a case's images and report.

    Raises:
        UsageError: the index does not have the case.
        IndexingError: it has no vector of it by the version that is searched.
    """
    with index.catalog.reading() as read:
        study = read.study_by_id(study_id)
    if study is None:
        raise UsageError(
            f"the index has no case {study_id!r} (and there is no such file); an id is <source>:<the set's "
            "own name>"
        )
    vectors: list[tuple[Tower, Vector]] = []
    concepts: list[Concept] = []
    for kind, tower in _TOWERS:
        points = [item.point for item in study.items if item.kind == kind]
        stored = index.points(kind, points)
        vectors += [(tower, stored[point].vector) for point in points if point in stored]
        concepts = payload_concepts(stored[points[0]].payload) if points and points[0] in stored else concepts
    if not vectors:
        raise IndexingError(
            f"the index holds no vector of {study_id!r} by {index.active_version.name}: "
            "run `similarity index add` with that encoder"
        )
    return ReferencedCase(study.case.subject_id, tuple(vectors), case_concepts(study.case.findings, concepts))


def image_location(index: Index, study_id: str) -> str:
    """Return the location of a study's first image.

    Raises:
        UsageError: there is no such case.
        IndexingError: it has no image, or its image has changed since it was indexed.
    """
    from corpus.images.reader import content_hash  # late: pydicom and PIL take half a second

    with index.catalog.reading() as read:
        study = read.study_by_id(study_id)
    if study is None:
        raise UsageError(f"the index has no case {study_id!r}; an id is <source>:<the set's own name>")
    first = next((item for item in study.items if item.kind == "image"), None)
    if first is None or first.location is None:
        raise IndexingError(f"the case {study_id!r} has no image to look at, only a report")
    if content_hash(first.location) != first.content:
        raise IndexingError(
            f"the image of {study_id!r} has changed since it was indexed: run `similarity index add` on its "
            "source"
        )
    return first.location
