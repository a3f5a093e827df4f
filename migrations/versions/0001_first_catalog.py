"""The first catalog"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "encoder",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_encoder")),
    )
    op.create_table(
        "filter_field",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_filter_field")),
    )
    op.create_table(
        "problem",
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("study_id", sa.Text(), nullable=True),
        sa.Column("subject_id", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_problem")),
    )
    with op.batch_alter_table("problem", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_problem_origin"), ["origin"], unique=False)
        batch_op.create_index(batch_op.f("ix_problem_study_id"), ["study_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_problem_subject_id"), ["subject_id"], unique=False)

    op.create_table(
        "sentence",
        sa.Column("point_id", sa.Uuid(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("point_id", name=op.f("pk_sentence")),
    )
    op.create_table(
        "study",
        sa.Column("study_id", sa.Text(), nullable=False),
        sa.Column("study_key", sa.String(length=32), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("age", sa.Float(), nullable=True),
        sa.Column("sex", sa.String(length=1), nullable=True),
        sa.Column("date", sa.Text(), nullable=True),
        sa.Column("diagnosis", sa.Text(), nullable=True),
        sa.Column("accession", sa.Text(), nullable=True),
        sa.Column("study_uid", sa.Text(), nullable=True),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("sections", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_study")),
        sa.UniqueConstraint("study_key", name=op.f("uq_study_study_key")),
    )
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_study_accession"), ["accession"], unique=False)
        batch_op.create_index(batch_op.f("ix_study_source"), ["source"], unique=False)
        batch_op.create_index(batch_op.f("ix_study_study_uid"), ["study_uid"], unique=False)
        batch_op.create_index(batch_op.f("ix_study_subject_id"), ["subject_id"], unique=False)

    op.create_table(
        "tombstone",
        sa.Column("collection", sa.String(length=64), nullable=False),
        sa.Column("point_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("collection", "point_id", name=op.f("pk_tombstone")),
    )
    op.create_table(
        "item",
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("study_id", sa.Text(), nullable=False),
        sa.Column("point_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("view", sa.String(length=16), nullable=True),
        sa.Column("modality", sa.String(length=16), nullable=True),
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.Column("stamp", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.study_id"], name=op.f("fk_item_study_id_study"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_item")),
        sa.UniqueConstraint("point_id", name=op.f("uq_item_point_id")),
    )
    with op.batch_alter_table("item", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_item_content"), ["content"], unique=False)
        batch_op.create_index(batch_op.f("ix_item_study_id"), ["study_id"], unique=False)

    op.create_table(
        "ledger",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("point_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.Column("attributes", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["fingerprint"], ["encoder.fingerprint"], name=op.f("fk_ledger_fingerprint_encoder")
        ),
        sa.PrimaryKeyConstraint("fingerprint", "point_id", name=op.f("pk_ledger")),
    )
    op.create_table(
        "sentence_use",
        sa.Column("study_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("point_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["point_id"], ["sentence.point_id"], name=op.f("fk_sentence_use_point_id_sentence")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.study_id"], name=op.f("fk_sentence_use_study_id_study"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_id", "position", name=op.f("pk_sentence_use")),
    )
    with op.batch_alter_table("sentence_use", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sentence_use_point_id"), ["point_id"], unique=False)


def downgrade() -> None:

    with op.batch_alter_table("sentence_use", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sentence_use_point_id"))

    op.drop_table("sentence_use")
    op.drop_table("ledger")
    with op.batch_alter_table("item", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_item_study_id"))
        batch_op.drop_index(batch_op.f("ix_item_content"))

    op.drop_table("item")
    op.drop_table("tombstone")
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_study_subject_id"))
        batch_op.drop_index(batch_op.f("ix_study_study_uid"))
        batch_op.drop_index(batch_op.f("ix_study_source"))
        batch_op.drop_index(batch_op.f("ix_study_accession"))

    op.drop_table("study")
    op.drop_table("sentence")
    with op.batch_alter_table("problem", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_problem_subject_id"))
        batch_op.drop_index(batch_op.f("ix_problem_study_id"))
        batch_op.drop_index(batch_op.f("ix_problem_origin"))

    op.drop_table("problem")
    op.drop_table("filter_field")
    op.drop_table("encoder")
