"""A report that was a study of its own until its images came: it is not to be found twice."""

import re

from corpus.records import Report, Study
from corpus.subjects import patient_id_of
from indexer.catalog.catalog import Catalog
from indexer.ingest.embedding import Resolved

_WORDS = re.compile(r"\w+")


def replace_single_reports(resolved: Resolved, catalog: Catalog) -> None:
    """Find the studies without images that were nothing but the report of a study of the group.

    One accession may be of two sites: a study goes only where it is of the same patient id, or names nobody
    and says the same words.
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
    """Its words without headings, which not every version took apart alike."""
    return _WORDS.findall(" ".join(section.text for section in report.sections).casefold())
