"""Where findings are in the pictures of the catalog: kept with the picture, gone with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from indexer.catalog.models import ItemRow, LocalizationRow


def keep_localizations(
    engine: sa.Engine, item_id: str, fingerprint: str, answers: Sequence[Mapping[str, Any]]
) -> bool:
    """Keep the answers about one picture; those to the same phrases by the same encoder are replaced.

    Args:
        engine: of an open catalog.
        item_id: the picture.
        fingerprint: of the encoder.
        answers: in the contract's JSON form of an answer, each with `phrase` and `method`.

    Returns:
        Whether the catalog has the picture; if not, nothing is kept.
    """
    with Session(engine) as session, session.begin():
        if session.get(ItemRow, item_id) is None:
            return False
        for answer in answers:
            told = {name: value for name, value in answer.items() if name not in ("phrase", "method")}
            session.merge(
                LocalizationRow(
                    item_id=item_id,
                    fingerprint=fingerprint,
                    phrase=answer["phrase"],
                    method=answer["method"],
                    answer=told,
                )
            )
    return True


def localizations_of(engine: sa.Engine, item_id: str) -> list[dict[str, Any]]:
    """What is kept about one picture, by phrase, method and encoder."""
    with Session(engine) as session:
        rows = session.scalars(
            sa.select(LocalizationRow)
            .where(LocalizationRow.item_id == item_id)
            .order_by(LocalizationRow.phrase, LocalizationRow.method, LocalizationRow.fingerprint)
        )
        return [
            {"phrase": row.phrase, "method": row.method, "fingerprint": row.fingerprint, **row.answer}
            for row in rows
        ]
