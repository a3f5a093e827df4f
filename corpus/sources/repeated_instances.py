"""Files of one SOPInstanceUID: copies of one image, or different images with a repeated UID."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from corpus.errors import CorpusError
from corpus.files import UnreadableFile, read_bytes
from corpus.images.reader import content_hash
from corpus.records import Problem
from corpus.redaction import redacted

COPY = "is a copy of another file of its study (same SOPInstanceUID, same pixels), which is kept"
OTHER_PIXELS = (
    "its SOPInstanceUID is that of another image with other pixels: both are kept; give one a UID of its own"
)
OTHER_PATIENT = (
    "its SOPInstanceUID is that of an image of another patient: it is left out; find out which patient it "
    "shows"
)


@redacted
@dataclass(frozen=True, slots=True)
class Instance:
    """A file with its SOPInstanceUID. `subject_id`: None where its study has no patient id."""

    item_id: str
    study_id: str
    subject_id: str | None
    instance_uid: str
    path: Path


def repeated_instances(instances: Iterable[Instance]) -> dict[str, Problem]:
    """Return the problems of files with the UID of an earlier one, by item id.

    Copies, and images with the UID of another patient's image, are left out: their problems are of the item
    itself. An image with other pixels stays, recorded as `<item_id>@uid`. Only files with repeated UIDs are
    read. One image in two studies of a patient stays in both.
    """
    named: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        if instance.instance_uid:
            named[instance.instance_uid].append(instance)
    found: dict[str, Problem] = {}
    for same in named.values():
        distinct: list[Instance] = []
        contents: dict[Path, str] = {}
        for instance in same if len(same) > 1 else ():
            problems = filter(None, (_conflict(instance, other, contents) for other in distinct))
            # A problem that leaves the file out comes before one that is only recorded.
            problem = min(problems, key=lambda problem: problem.item_id != instance.item_id, default=None)
            if problem is not None:
                found[instance.item_id] = problem
            if problem is None or problem.item_id != instance.item_id:
                distinct.append(instance)
    return found


def _conflict(instance: Instance, other: Instance, contents: dict[Path, str]) -> Problem | None:
    subjects = (instance.subject_id, other.subject_id)
    location = str(instance.path)
    if None not in subjects and subjects[0] != subjects[1]:
        return Problem(instance.item_id, "failed", OTHER_PATIENT, location)
    if not _same_pixels(instance.path, other.path, contents):
        return Problem(f"{instance.item_id}@uid", "noted", OTHER_PIXELS, location)
    same_study = instance.study_id == other.study_id
    return Problem(instance.item_id, "skipped", COPY, location) if same_study else None


def _same_pixels(one: Path, other: Path, contents: dict[Path, str]) -> bool:
    """Return whether two files have equal pixels; a file that cannot be decoded differs."""
    if _file_hash(one) == _file_hash(other):
        return True
    for path in (one, other):
        if path not in contents:
            try:
                contents[path] = content_hash(path)
            except CorpusError:
                contents[path] = str(path)
    return contents[one] == contents[other]


def _file_hash(path: Path) -> str:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except UnreadableFile:
        return str(path)
