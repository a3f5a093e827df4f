"""Calibrations of a version"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "calibration",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("fitted", sa.JSON(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["fingerprint"],
            ["encoder.fingerprint"],
            name=op.f("fk_calibration_fingerprint_encoder"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("fingerprint", "kind", name=op.f("pk_calibration")),
    )


def downgrade() -> None:
    op.drop_table("calibration")
