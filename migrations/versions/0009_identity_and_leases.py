"""The identity of an index and the fingerprint of its key; leases of the runs that write"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | Sequence[str] | None = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "index_identity",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("index_id", sa.Uuid(), nullable=False),
        sa.Column("key_fingerprint", sa.String(length=16), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_index_identity")),
    )
    op.create_table(
        "lease",
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.Column("command", sa.String(length=64), nullable=False),
        sa.Column("exclusive", sa.Boolean(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("began", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("lease_id", name=op.f("pk_lease")),
    )
    op.create_table(
        "claim",
        sa.Column("study_id", sa.Text(), nullable=False),
        sa.Column("lease_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["lease_id"], ["lease.lease_id"], name=op.f("fk_claim_lease_id_lease"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_claim")),
    )
    op.create_index(op.f("ix_claim_lease_id"), "claim", ["lease_id"])


def downgrade() -> None:
    op.drop_table("claim")
    op.drop_table("lease")
    op.drop_table("index_identity")
