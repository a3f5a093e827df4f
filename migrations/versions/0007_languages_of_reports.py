"""The language of a study's report, and whether its findings were read"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | Sequence[str] | None = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("study") as study:
        study.add_column(sa.Column("language", sa.String(length=16), nullable=True))
        study.add_column(sa.Column("findings_read", sa.Boolean(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("study") as study:
        study.drop_column("findings_read")
        study.drop_column("language")
