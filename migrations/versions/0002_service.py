"""Tokens, sessions, audit and jobs of the service"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels = None
depends_on = None

_ADDED_TO_ONLY = ("audit", "audit_study")


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "token",
        sa.Column("token_id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created", moment, nullable=False),
        sa.Column("expires", moment, nullable=True),
        sa.Column("revoked", moment, nullable=True),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_token")),
    )
    op.create_table(
        "session",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("token_id", sa.String(length=16), nullable=False),
        sa.Column("created", moment, nullable=False),
        sa.Column("expires", moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["token_id"], ["token.token_id"], name=op.f("fk_session_token_id_token"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_token_id"), "session", ["token_id"])
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("request_id", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"])
    op.create_index(op.f("ix_audit_actor"), "audit", ["actor"])
    op.create_table(
        "audit_study",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("study_key", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["audit.number"], name=op.f("fk_audit_study_number_audit")),
        sa.PrimaryKeyConstraint("number", "study_key", name=op.f("pk_audit_study")),
    )
    op.create_index(op.f("ix_audit_study_study_key"), "audit_study", ["study_key"])
    op.create_table(
        "job",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created", moment, nullable=False),
        sa.Column("seen", moment, nullable=True),
        sa.Column("ended", moment, nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job")),
    )
    op.create_index(op.f("ix_job_state"), "job", ["state"])
    for table in _ADDED_TO_ONLY:
        _refuse_changes(table)


def downgrade() -> None:
    for table in ("job", "audit_study", "audit", "session", "token"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION similarity_added_to_only()")


def _refuse_changes(table: str) -> None:
    """Make a table one that rows are only added to, whoever asks."""
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'the audit is added to only'); END"
            )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION similarity_added_to_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit is added to only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION similarity_added_to_only()"
    )
