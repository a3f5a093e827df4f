"""The tables of the catalog. Portable types only: the same models run on SQLite and on Postgres.

Access to the service and its use (`token`, `session`, `audit`, `job`) are stored beside the cases: where the
catalog cannot be written, no answer leaves.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Boolean, DateTime, Float, ForeignKey, Integer, MetaData, String, Text, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """All tables of the catalog, their constraints named by one rule."""

    metadata = MetaData(naming_convention=NAMING)


class IdentityRow(Base):
    """What distinguishes this index from every other: one row, `number` 1 (`indexer.catalog.identity`).

    `key_fingerprint`: of the key that every id in the vectors is hashed with. `namespace`: how the names of
    its collections on a server begin; empty in an index of a version that did not distinguish indexes.
    `state`: ready, or restoring (a restore began and has not ended).
    """

    __tablename__ = "index_identity"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    index_id: Mapped[UUID] = mapped_column(Uuid)
    key_fingerprint: Mapped[str] = mapped_column(String(16))
    namespace: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))


class LeaseRow(Base):
    """A run that writes, on whichever machine (`indexer.catalog.leases`). Used on a database server only.

    `command`: its name. `exclusive`: no other run may write beside it. `host`: name of its machine, for
    messages. `system`, `pid`, `process`: what tells another process of the same system whether it lives.
    `seen`: its last heartbeat, by the clock of the database.
    """

    __tablename__ = "lease"

    lease_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    command: Mapped[str] = mapped_column(String(64))
    exclusive: Mapped[bool] = mapped_column(Boolean)
    host: Mapped[str] = mapped_column(Text)
    system: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(Integer)
    process: Mapped[str] = mapped_column(Text)
    began: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    seen: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class ClaimRow(Base):
    """A study that a run is indexing now and has not committed: no other run may write it."""

    __tablename__ = "claim"

    study_id: Mapped[str] = mapped_column(Text, primary_key=True)
    lease_id: Mapped[UUID] = mapped_column(ForeignKey("lease.lease_id", ondelete="CASCADE"), index=True)


class EncoderRow(Base):
    """A version of the index: an encoder and its vectors. `state`: active (searches use it), building (not
    activated yet) or retired (it was active)."""

    __tablename__ = "encoder"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    dim: Mapped[int] = mapped_column(Integer)
    folder: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class StudyRow(Base):
    """One study. `content`: hash of the whole row, equal while the study is unchanged.

    `study_key`: keyed hash of the id, in the vector store. `findings`: name → status. `sections`: list of
    [name, text], or null without a report. `birth_key`: keyed hash of the birth date, which distinguishes
    patients of one id. `shared_key`: that id's key, where several subjects share it or the subject is
    undecided.
    `language`: of the report, as ISO 639-1 code, and `findings_read`: whether there was a lexicon of it; null
    without a report, and in rows of a version that did not record them.
    """

    __tablename__ = "study"

    study_id: Mapped[str] = mapped_column(Text, primary_key=True)
    study_key: Mapped[str] = mapped_column(String(32), unique=True)
    subject_id: Mapped[str] = mapped_column(Text, index=True)
    source: Mapped[str] = mapped_column(Text, index=True)
    age: Mapped[float | None] = mapped_column(Float)
    sex: Mapped[str | None] = mapped_column(String(1))
    date: Mapped[str | None] = mapped_column(Text)
    diagnosis: Mapped[str | None] = mapped_column(Text)
    accession: Mapped[str | None] = mapped_column(Text, index=True)
    study_uid: Mapped[str | None] = mapped_column(Text, index=True)
    findings: Mapped[dict[str, str]] = mapped_column(JSON)
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)
    sections: Mapped[list[list[str]] | None] = mapped_column(JSON(none_as_null=True))
    content: Mapped[str] = mapped_column(String(64))
    birth_key: Mapped[str | None] = mapped_column(String(32))
    shared_key: Mapped[str | None] = mapped_column(Text, index=True)
    language: Mapped[str | None] = mapped_column(String(16))
    findings_read: Mapped[bool | None] = mapped_column(Boolean)


class ItemRow(Base):
    """An image or a report that has a vector. `kind`: image or report.

    `content`: hash of the pixels or the text, without the encoder: equal content, equal hash. `stamp`: size
    and times of the file when it was read; while they are unchanged, it is not read again. `height`, `width`:
    of an image as read, in pixels; null where it was read by a version that did not record them.
    `instance_key`: keyed hash of a DICOM image's SOPInstanceUID.
    """

    __tablename__ = "item"

    item_id: Mapped[str] = mapped_column(Text, primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.study_id", ondelete="CASCADE"), index=True)
    point_id: Mapped[UUID] = mapped_column(Uuid, unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    position: Mapped[int] = mapped_column(Integer)
    location: Mapped[str | None] = mapped_column(Text)
    view: Mapped[str | None] = mapped_column(String(16))
    modality: Mapped[str | None] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(String(64), index=True)
    stamp: Mapped[str | None] = mapped_column(Text)
    height: Mapped[int | None] = mapped_column(Integer)
    width: Mapped[int | None] = mapped_column(Integer)
    instance_key: Mapped[str | None] = mapped_column(String(32), index=True)


class SentenceRow(Base):
    """One distinct sentence text: it has one vector, however many reports contain it."""

    __tablename__ = "sentence"

    point_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    text: Mapped[str] = mapped_column(Text)


class SentenceUseRow(Base):
    """A use of a sentence in a study's report. `position`: its number in the description."""

    __tablename__ = "sentence_use"

    study_id: Mapped[str] = mapped_column(ForeignKey("study.study_id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    point_id: Mapped[UUID] = mapped_column(ForeignKey("sentence.point_id"), index=True)


class LedgerRow(Base):
    """A committed point of a version, of one kind (`indexer.catalog.ledger`)."""

    __tablename__ = "ledger"

    fingerprint: Mapped[str] = mapped_column(ForeignKey("encoder.fingerprint"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    point_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    content: Mapped[str] = mapped_column(String(64))
    attributes: Mapped[str] = mapped_column(String(64))


class CalibrationRow(Base):
    """A calibration fitted on a version's own images. `kind`: gate, guarantee or votes.

    `fitted`: its numbers. `images`: how many images the version had then.
    """

    __tablename__ = "calibration"

    fingerprint: Mapped[str] = mapped_column(
        ForeignKey("encoder.fingerprint", ondelete="CASCADE"), primary_key=True
    )
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    fitted: Mapped[dict[str, Any]] = mapped_column(JSON)
    images: Mapped[int] = mapped_column(Integer)
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class TombstoneRow(Base):
    """A point that left the catalog and has to be purged from the vector store."""

    __tablename__ = "tombstone"

    collection: Mapped[str] = mapped_column(String(64), primary_key=True)
    point_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)


class ProblemRow(Base):
    """An item that was not indexed or is noted, and the reason. `origin`: the source as it was named."""

    __tablename__ = "problem"

    item_id: Mapped[str] = mapped_column(Text, primary_key=True)
    study_id: Mapped[str | None] = mapped_column(Text, index=True)
    subject_id: Mapped[str | None] = mapped_column(Text, index=True)
    origin: Mapped[str] = mapped_column(Text, index=True)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    location: Mapped[str | None] = mapped_column(Text)


class FilterFieldRow(Base):
    """A column of a manifest that one can filter on, and the type of its values."""

    __tablename__ = "filter_field"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    type: Mapped[str] = mapped_column(String(16))


class TokenRow(Base):
    """A token of the service. `digest`: SHA-256 of its secret, which is not stored; `role`: of its holder."""

    __tablename__ = "token"

    token_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class SessionRow(Base):
    """A browser session opened with a token. `digest`: SHA-256 of its cookie."""

    __tablename__ = "session"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_id: Mapped[str] = mapped_column(ForeignKey("token.token_id", ondelete="CASCADE"), index=True)
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AuditRow(Base):
    """A request to the service and its outcome. Rows are only added: triggers refuse other changes."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    request_id: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(Text, index=True)
    role: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(32))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)


class AuditStudyRow(Base):
    """A study in an audited answer, by its keyed hash: erasing a study leaves nothing of it here."""

    __tablename__ = "audit_study"

    number: Mapped[int] = mapped_column(ForeignKey("audit.number"), primary_key=True)
    study_key: Mapped[str] = mapped_column(String(32), primary_key=True, index=True)


class JobRow(Base):
    """A job of the service. `state`: queued, running, done, failed or cancelled.

    `request`: its arguments. `progress`: counts so far. `outcome`: its result. `seen`: last heartbeat of the
    process that runs it.
    """

    __tablename__ = "job"

    job_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16), index=True)
    actor: Mapped[str] = mapped_column(Text)
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    progress: Mapped[dict[str, Any]] = mapped_column(JSON)
    outcome: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    seen: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
