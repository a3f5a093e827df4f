"""Duplicates of what the index has: one image for a SOPInstanceUID, one study for a report and its images."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from corpus.records import Problem, Report, Study
from corpus.sources.repeated_instances import OTHER_PATIENT, OTHER_PIXELS
from corpus.subjects import patient_id_of
from indexer.catalog.catalog import Catalog
from indexer.catalog.ledger_records import NewItem, NewStudy
from indexer.catalog.subjects import StoredInstance, instances_by_key
from indexer.ingest.embedding import Resolved, is_same_file

REPLACED = (
    "the index had other pixels under its SOPInstanceUID, from a file that is still there: this image takes "
    "the place of that one; give one a UID of its own"
)

_WORDS = re.compile(r"\w+")


def check_instances(resolved: Resolved, catalog: Catalog) -> None:
    """Compare a group's images with the index's images of the same UIDs; record conflicts.

    An image of another patient's UID is removed from the group; one of other pixels stays beside the first.
    """
    keys = [item.instance_key for new, _ in resolved.new for item in new.items if item.instance_key]
    stored = instances_by_key(catalog, keys)
    checked: list[tuple[NewStudy, bool]] = []
    for new, changed in resolved.new:
        refused = {item.item_id for item in new.items if _is_refused(item, new, stored, resolved)}
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


def _is_refused(
    item: NewItem, new: NewStudy, stored: Mapping[str, Sequence[StoredInstance]], resolved: Resolved
) -> bool:
    """Record a conflict of an image with those of its UID; return whether the image is left out."""
    study = new.study
    worst: Problem | None = None
    for other in stored.get(item.instance_key or "", ()):
        if other.item_id == item.item_id:
            continue
        named = study.subject_id != study.study_id and other.subject_id != other.study_id
        if other.study_id != study.study_id and named and other.subject_id != study.subject_id:
            worst = Problem(item.item_id, "failed", OTHER_PATIENT, item.location)
            break
        if other.content == item.content:
            continue
        present = any(other.item_id == beside.item_id for beside in new.items)
        if other.study_id != study.study_id or present:
            worst = Problem(f"{item.item_id}@uid", "noted", OTHER_PIXELS, item.location)
        elif other.location and other.stamp and is_same_file(other.location, other.stamp):
            worst = Problem(f"{item.item_id}@uid", "skipped", REPLACED, item.location)
    if worst is not None:
        resolved.problems.append((study.study_id, study.subject_id, worst))
    return worst is not None and worst.item_id == item.item_id


def replace_single_reports(resolved: Resolved, catalog: Catalog) -> None:
    """Mark studies without images as replaced that were the report of a study of the group.

    One accession may be of two sites: a study is replaced only where it is of the same patient id, or names
    no patient and has the same words.
    """
    joined = {
        name: new.study
        for new, _ in resolved.new
        if any(item.kind == "report" for item in new.items)
        for name in new.study.replaces
    }
    singles = catalog.studies(list(joined))
    resolved.replaced += [name for name, single in singles.items() if _is_same(single, joined[name])]


def _is_same(single: Study, joined: Study) -> bool:
    if single.images or single.source != joined.source or single.report is None or joined.report is None:
        return False
    if single.subject_id != single.study_id and joined.subject_id != joined.study_id:
        return patient_id_of(single.subject_id) == patient_id_of(joined.subject_id)
    return _words(single.report) == _words(joined.report)


def _words(report: Report) -> list[str]:
    """Return its words without headings, which earlier versions parsed differently."""
    return _WORDS.findall(" ".join(section.text for section in report.sections).casefold())
