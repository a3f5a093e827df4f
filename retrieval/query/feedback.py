"""The cases and pictures that a query points at: whose they are, or recalled from the index."""

from dataclasses import dataclass
from pathlib import Path

from corpus.errors import IndexingError, UsageError
from corpus.language.concepts import Concept
from corpus.redaction import redacted
from indexer.index import Index
from indexer.ingest.payload import told_concepts
from indexer.ingest.subject_identity import subjects_of
from retrieval.lookup import owners_of, study_by_id
from retrieval.query.image import Picture
from retrieval.query.intent import findings_of
from retrieval.query.probes import Side, Vector


@redacted
@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A picture of a query: itself, whose it is, and which studies of the index hold it."""

    picture: Picture
    subjects: frozenset[str]
    studies: frozenset[str]


@redacted
@dataclass(frozen=True, slots=True)
class Recalled:
    """A case of the index: its stored vectors, its pictures' before its report's, and what it shows."""

    subject_id: str
    vectors: tuple[tuple[Side, Vector], ...]
    shows: tuple[Concept, ...]


def is_picture(example: str) -> bool:
    """Whether an example is a picture's file rather than a study_id."""
    if example.startswith("phantom://"):
        return True
    try:
        return Path(example).exists()
    except (OSError, ValueError):
        return False


def show(index: Index, picture: Picture) -> Shown:
    """Find whose a picture is: by equal pixels in the index, and by its DICOM header."""
    with index.catalog.engine.connect() as connection:
        owners = owners_of(connection, picture.content)
    patient = picture.patient
    header = subjects_of(index.catalog.engine, index.home, patient) if patient is not None else frozenset()
    subjects = frozenset(header | {subject for _, subject in owners})
    return Shown(picture, subjects, frozenset(study for study, _ in owners))


def recall(index: Index, study_id: str) -> Recalled:
    """Take the stored vectors of a case: its pictures and its report.

    Raises:
        UsageError: the index does not have it.
        IndexingError: it has no vector of it by the version that is searched.
    """
    with index.catalog.engine.connect() as connection:
        known = study_by_id(connection, study_id)
    if known is None:
        raise UsageError(
            f"the index has no case {study_id!r} (and there is no such file); an id is <source>:<the set's "
            "own name>"
        )
    vectors: list[tuple[Side, Vector]] = []
    placed: list[Concept] = []
    held = index.store.collections()
    sides: tuple[tuple[str, Side], ...] = (("image", "image"), ("report", "text"))
    for kind, side in sides:
        points = [item.point for item in known.items if item.kind == kind]
        collection = index.collection(kind)
        if points and collection in held:
            found = {point.id: point for point in index.store.fetch(collection, points)}
            vectors += [(side, found[point].vector) for point in points if point in found]
            placed = told_concepts(found[points[0]].payload) if points[0] in found else placed
    if not vectors:
        raise IndexingError(
            f"the index holds no vector of {study_id!r} by {index.active_version.name}: "
            "run `similarity index add` with that encoder"
        )
    return Recalled(known.case.subject_id, tuple(vectors), findings_of(known.case.findings, placed))
