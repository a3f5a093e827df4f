"""One SOPInstanceUID is one image, across sources and runs: what the index has under it and what comes."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import sqlalchemy as sa

from corpus.records import Problem
from corpus.redaction import redacted
from corpus.sources.repeated_instances import OTHER_PATIENT, OTHER_PIXELS
from indexer.catalog.catalog import chunks
from indexer.catalog.database import repeated_query
from indexer.catalog.ledger import NewItem, NewStudy
from indexer.catalog.models import ItemRow, StudyRow
from indexer.ingest.embedding import Resolved, is_same_file

REPLACED = (
    "the index had other pixels under its SOPInstanceUID, from a file that is still there: this image takes "
    "the place of that one; give one a UID of its own"
)


@redacted
@dataclass(frozen=True, slots=True)
class Indexed:
    """An image that the index has."""

    item_id: str
    study_id: str
    subject_id: str
    content: str
    location: str | None
    stamp: str | None


def check_instances(resolved: Resolved, engine: sa.Engine) -> None:
    """Compare a group's images with what the index has under their UIDs; record conflicts.

    An image of another patient's UID is taken out of the group; one of other pixels stays beside the first.
    """
    keys = [item.instance_key for new, _ in resolved.new for item in new.items if item.instance_key]
    indexed = _indexed(engine, keys)
    checked: list[tuple[NewStudy, bool]] = []
    for new, changed in resolved.new:
        refused = {item.item_id for item in new.items if _is_refused(item, new, indexed, resolved)}
        if not refused:
            checked.append((new, changed))
            continue
        for item in new.items:
            if item.item_id in refused:
                resolved.wanted.pop(("image", item.point_id), None)
                resolved.wanted.pop(("patch", item.point_id), None)
        left = tuple(item for item in new.items if item.item_id not in refused)
        if left:
            checked.append((replace(new, items=left), True))
        else:
            resolved.gone.append(new.study.study_id)
    resolved.new[:] = checked


def _is_refused(item: NewItem, new: NewStudy, indexed: dict[str, list[Indexed]], resolved: Resolved) -> bool:
    study = new.study
    worst: Problem | None = None
    for other in indexed.get(item.instance_key or "", ()):
        if other.item_id == item.item_id:
            continue
        named = study.subject_id != study.study_id and other.subject_id != other.study_id
        if other.study_id != study.study_id and named and other.subject_id != study.subject_id:
            worst = Problem(item.item_id, "failed", OTHER_PATIENT, item.location)
            break
        if other.content == item.content:
            continue
        kept = any(other.item_id == beside.item_id for beside in new.items)
        if other.study_id != study.study_id or kept:
            worst = Problem(f"{item.item_id}@uid", "noted", OTHER_PIXELS, item.location)
        elif other.location and other.stamp and is_same_file(other.location, other.stamp):
            worst = Problem(f"{item.item_id}@uid", "skipped", REPLACED, item.location)
    if worst is not None:
        resolved.problems.append((study.study_id, study.subject_id, worst))
    return worst is not None and worst.item_id == item.item_id


@repeated_query
def _indexed(engine: sa.Engine, keys: Iterable[str]) -> dict[str, list[Indexed]]:
    columns = (
        ItemRow.instance_key, ItemRow.item_id, ItemRow.study_id, StudyRow.subject_id, ItemRow.content,
        ItemRow.location, ItemRow.stamp,
    )  # fmt: skip
    select = sa.select(*columns).join(StudyRow, StudyRow.study_id == ItemRow.study_id)
    found: dict[str, list[Indexed]] = defaultdict(list)
    with engine.connect() as session:
        for chunk in chunks(keys):
            for row in session.execute(select.where(ItemRow.instance_key.in_(chunk))):
                found[row[0] or ""].append(Indexed(*row[1:]))
    return found
