"""Patients who share an id, distinguished by their birth dates; images known by their UIDs"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | Sequence[str] | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("study") as study:
        study.add_column(sa.Column("birth_key", sa.String(length=32), nullable=True))
        study.add_column(sa.Column("shared_key", sa.Text(), nullable=True))
        study.create_index(study.f("ix_study_shared_key"), ["shared_key"], unique=False)
    with op.batch_alter_table("item") as item:
        item.add_column(sa.Column("instance_key", sa.String(length=32), nullable=True))
        item.create_index(item.f("ix_item_instance_key"), ["instance_key"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("item") as item:
        item.drop_index(item.f("ix_item_instance_key"))
        item.drop_column("instance_key")
    with op.batch_alter_table("study") as study:
        study.drop_index(study.f("ix_study_shared_key"))
        study.drop_column("shared_key")
        study.drop_column("birth_key")
