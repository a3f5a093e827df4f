"""The tables of the catalog. Portable types only: the same models run on SQLite and on Postgres.

Who may use the service and what was done with it (`token`, `session`, `audit`, `job`) stands beside the
cases: where the catalog cannot be written, nothing leaves.
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


class EncoderRow(Base):
    """A version of the index: the encoder whose vectors it holds. `state`: active (it is searched),
    building (it is yet to be activated) or retired (it was active)."""

    __tablename__ = "encoder"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    dim: Mapped[int] = mapped_column(Integer)
    folder: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class StudyRow(Base):
    """One study. `content`: hash of the whole row, by which an unchanged study is known.

    `study_key` is the keyed hash that stands for it in the vectors. `findings`: name → status. `sections`:
    list of [name, text], or null without a report. `birth_key`: keyed hash of the birth date, by which
    patients of one id are told apart. `shared_key`: that id's key, where the subject is kept apart under it
    or nothing tells whose study it is.
    `language`: of the report, as ISO 639-1 code, and `findings_read`: whether a lexicon of it was there; null
    without a report, and in rows of a version that did not look.
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
    """A picture or a report that has a vector. `kind`: image or report.

    `content`: hash of the pixels or the text, without the encoder: equal content, equal hash. `stamp`: size
    and times of the file when it was read; while they stand, it need not be read again. `height` and `width`:
    pixels of a picture as read; null where it was read by a version that did not keep them. `instance_key`:
    keyed hash of a DICOM image's SOPInstanceUID.
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
    """One distinct sentence text: it has one vector, however many reports hold it."""

    __tablename__ = "sentence"

    point_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    text: Mapped[str] = mapped_column(Text)


class SentenceUseRow(Base):
    """A study's report holds this sentence, as number `position` of those that are told of the film."""

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
    """What was learned from a version's own films. `kind`: gate, guarantee or votes; `fitted`: its numbers.

    `images`: how many films the version held then.
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
    """A point that is no longer in the catalog and still has to leave the vector store."""

    __tablename__ = "tombstone"

    collection: Mapped[str] = mapped_column(String(64), primary_key=True)
    point_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)


class ProblemRow(Base):
    """An item that did not become part of the index, and why. `origin`: the source as it was named."""

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
    """A key to the service. `digest`: SHA-256 of its secret, which is nowhere else; `role`: what it opens."""

    __tablename__ = "token"

    token_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class SessionRow(Base):
    """A browser that was signed in with a token. `digest`: SHA-256 of its cookie."""

    __tablename__ = "session"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_id: Mapped[str] = mapped_column(ForeignKey("token.token_id", ondelete="CASCADE"), index=True)
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AuditRow(Base):
    """What somebody asked of the service and was answered. Rows are only added: triggers refuse the rest."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    request_id: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(Text, index=True)
    role: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(32))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)


class AuditStudyRow(Base):
    """A study that an audited answer showed, by its keyed hash: erasing a study leaves nothing of it here."""

    __tablename__ = "audit_study"

    number: Mapped[int] = mapped_column(ForeignKey("audit.number"), primary_key=True)
    study_key: Mapped[str] = mapped_column(String(32), primary_key=True, index=True)


class JobRow(Base):
    """Long work that was asked for. `state`: queued, running, done, failed or cancelled.

    `request` says what is to be done, `progress` what is, `outcome` what came of it. `seen`: when the process
    that works on it last gave a sign.
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


class LocalizationRow(Base):
    """Where one phrase is in one picture by one encoder and method.

    `answer`: the rest of the contract's JSON form, the mask as run lengths among it.
    """

    __tablename__ = "localization"

    item_id: Mapped[str] = mapped_column(ForeignKey("item.item_id", ondelete="CASCADE"), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    phrase: Mapped[str] = mapped_column(Text, primary_key=True)
    method: Mapped[str] = mapped_column(String(16), primary_key=True)
    answer: Mapped[dict[str, Any]] = mapped_column(JSON)
