"""A point may be done as more than one kind; the size of an image as read"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | Sequence[str] | None = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("item") as item:
        item.add_column(sa.Column("height", sa.Integer(), nullable=True))
        item.add_column(sa.Column("width", sa.Integer(), nullable=True))
    _key_the_ledger_by("fingerprint", "kind", "point_id")


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM ledger WHERE kind NOT IN ('image', 'report', 'sentence')"))
    _key_the_ledger_by("fingerprint", "point_id")
    with op.batch_alter_table("item") as item:
        item.drop_column("width")
        item.drop_column("height")


def _key_the_ledger_by(*columns: str) -> None:
    with op.batch_alter_table("ledger") as ledger:
        ledger.drop_constraint("pk_ledger", type_="primary")
        ledger.create_primary_key("pk_ledger", list(columns))
