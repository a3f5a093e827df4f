"""Learning what votes are worth in an index, from its own films."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from corpus.findings import Status
from indexer.catalog.models import ItemRow, StudyRow
from indexer.index import Index
from retrieval.draft.neighbours import KINDS, Kind
from retrieval.draft.votes import NAMES, SIDES, Calibration, calibrate, gather
from retrieval.reliability.own_images import Film


def calibrate_votes(index: Index, films: Sequence[Film]) -> Calibration | None:
    """Ask for each film as if it were new; None where too few films teach anything.

    Args:
        index: the index that holds them.
        films: those that something is known of.
    """
    return calibrate(
        [gather(index, film.vector, subjects=[film.study.subject_id]) for film in films],
        [film.study.findings for film in films],
        {kind: _everyone(index, kind) for kind in KINDS},
    )


def _everyone(index: Index, kind: Kind) -> Mapping[Status, Mapping[str, float]]:
    """How often each status of each finding is among the studies that have such an item and any finding."""
    holders = sa.select(ItemRow.study_id).where(ItemRow.kind == kind)
    statement = sa.select(StudyRow.findings).where(StudyRow.study_id.in_(holders))
    counts = {status: dict.fromkeys(NAMES, 0) for status in SIDES}
    known = 0
    with index.catalog.engine.connect() as connection:
        for findings in connection.execution_options(yield_per=1_000).scalars(statement):
            known += bool(findings)
            for name, told in findings.items():
                if told in counts and name in counts[Status(told)]:
                    counts[Status(told)][name] += 1
    return {
        status: {name: count / max(known, 1) for name, count in of.items()} for status, of in counts.items()
    }
