"""Everything that a run of `index add` leaves, to be compared with what another run leaves."""

from typing import Any

import sqlalchemy as sa

from indexer.catalog.ledger_records import KINDS
from indexer.catalog.models import LedgerRow
from indexer.index import Index
from indexer.vectors.store import Point


def contents(index: Index) -> dict[str, Any]:
    """Everything that a run leaves: ledger, payloads and vectors by point."""
    with index.catalog.engine.connect() as session:
        ledger = {
            (row.kind, row.point_id): (row.content, row.attributes)
            for row in session.execute(sa.select(*LedgerRow.__table__.columns))
        }
    points: dict[Any, Point] = {}
    present = set(index.store.collections())  # patches are kept on request
    for kind in (kind for kind in KINDS if index.collection(kind) in present):
        stored = index.store.fetch(index.collection(kind), list(index.store.ids(index.collection(kind))))
        points |= {(kind, point.id): point for point in stored}
    return {"ledger": ledger, "points": points}
