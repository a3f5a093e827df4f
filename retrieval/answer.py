"""The answer to a search: what leaves the program, in the shape of `docs/contracts/search.schema.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

from corpus.findings import Statuses, sides
from corpus.records import AttributeValue
from corpus.redaction import redacted
from retrieval.localize.answer import Box

if TYPE_CHECKING:
    import polars as pl

HitKind = Literal["image", "report", "case"]


EvidenceKind = Literal["image", "report", "sentence", "terms", "region", "findings", "duplicate"]


@redacted
@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a study is in the answer: an item of it, its findings, or an equal that it stands for.

    `kind` and `score`: of an image, a report and a sentence the cosine with the query; of `terms` the BM25 of
    the report's affirmed words; of a `region` the mean cosine of the box's patches with the nearest ones of
    this picture, which lie in `box`; of `findings` the agreement in [-1, 1]; of a `duplicate` the cosine with
    the item of the hit, 1 for equals, `study_id` being the other study. `contributed`: what it gave to the
    hit's score; all of a hit's add up to it. `by`: the parts of the query that it answers to. `agree` and
    `conflict`: what the study's findings say to those that were asked for.
    """

    item_id: str
    kind: EvidenceKind
    score: float
    text: str | None = None
    contributed: float | None = None
    by: tuple[str, ...] = ()
    agree: tuple[str, ...] | None = None
    conflict: tuple[str, ...] | None = None
    box: Box | None = None
    study_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The contract's form; what there is nothing to say of is left out."""
        told: dict[str, Any] = {"item_id": self.item_id, "kind": self.kind, "score": round(self.score, 6)}
        further: dict[str, Any] = {
            "text": self.text,
            "contributed": None if self.contributed is None else round(self.contributed, 6),
            "by": list(self.by) or None,
            "agree": None if self.agree is None else list(self.agree),
            "conflict": None if self.conflict is None else list(self.conflict),
            "box": None if self.box is None else self.box.as_json(),
            "study_id": self.study_id,
        }
        return told | {name: value for name, value in further.items() if value is not None}


@redacted
@dataclass(frozen=True, slots=True)
class Case:
    """What the catalog knows of a study. `path` is where its picture comes from, `text` its report.

    `language` of the report and `findings_read`, whether findings could be read from it: None without a
    report, and where the index is of a version that did not look.
    """

    study_id: str
    subject_id: str
    source: str
    path: str | None
    text: str | None
    diagnosis: str | None
    findings: Statuses
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    language: str | None = None
    findings_read: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """The contract's form of what is known of a study."""
        return {
            "study_id": self.study_id,
            "subject_id": self.subject_id,
            "source": self.source,
            "path": self.path,
            "text": self.text,
            "diagnosis": self.diagnosis,
            "findings": sides(self.findings),
            "attributes": dict(self.attributes),
            "language": self.language,
            "findings_read": self.findings_read,
        }


@redacted
@dataclass(frozen=True, slots=True)
class Hit:
    """One study of the answer, with the item that speaks for it. `score`: higher is better, in one answer."""

    rank: int
    score: float
    kind: HitKind
    item_id: str
    case: Case
    evidence: tuple[Evidence, ...]

    def as_json(self) -> dict[str, Any]:
        """The contract's form."""
        return {
            "rank": self.rank,
            "score": round(self.score, 6),
            "kind": self.kind,
            "item_id": self.item_id,
            **self.case.as_json(),
            "evidence": [evidence.as_json() for evidence in self.evidence],
        }


@dataclass(frozen=True, slots=True)
class Took:
    """Wall time of each step in milliseconds. In a batch, decode and encode are shared out evenly."""

    decode: float = 0.0
    encode: float = 0.0
    search: float = 0.0
    rank: float = 0.0
    catalog: float = 0.0

    @property
    def total(self) -> float:
        """All steps together."""
        return self.decode + self.encode + self.search + self.rank + self.catalog

    def as_json(self) -> dict[str, float]:
        """The contract's form, to a hundredth of a millisecond."""
        return {
            name: round(getattr(self, name), 2)
            for name in ("decode", "encode", "search", "rank", "catalog", "total")
        }


@dataclass(frozen=True, slots=True, repr=False)
class Answer(Sequence[Hit]):
    """The answer to one query: a sequence of hits, best first.

    `query` says what was asked and how its text was read, `encoder` (name, fingerprint) by which encoder it
    was understood. `abstained`: whether there is nothing like the picture, None where nothing is promised.
    `reason`: why so, what is promised of the hits, or why there is none, in a sentence for the reader.
    `own_studies` are the studies of the query's own subject, newest first; they are never among the hits.
    `notes`: what of the headers of the query's images could not be followed
    (`corpus.images.reader.ImageRead`).
    """

    query: Mapping[str, Any]
    encoder: Mapping[str, str]
    hits: tuple[Hit, ...]
    own_studies: tuple[Case, ...] = ()
    took: Took = field(default_factory=Took)
    abstained: bool | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Answer of {len(self.hits)} hits for {self.query.get('for', 'cases')}>"

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, place: int) -> Hit: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, place: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[place]

    def to_polars(self) -> "pl.DataFrame":
        """Return one row a hit: rank, score, ids, findings (lists of names), text, and each attribute."""
        import polars as pl  # late: half a second

        rows = [hit.as_json() for hit in self.hits]
        texts = ["kind", "item_id", "study_id", "subject_id", "source", "path", "diagnosis", "text"]
        frame: list[pl.Series] = [
            pl.Series("rank", [row["rank"] for row in rows], pl.Int64),
            pl.Series("score", [row["score"] for row in rows], pl.Float64),
            *(pl.Series(name, [row[name] for row in rows], pl.String) for name in texts),
        ]
        for status in ("present", "absent", "uncertain"):
            frame.append(pl.Series(status, [row["findings"][status] for row in rows], pl.List(pl.String)))
        known = {column.name for column in frame}
        for name in dict.fromkeys(name for row in rows for name in row["attributes"]):
            values = [row["attributes"].get(name) for row in rows]
            frame.append(pl.Series(f"attribute_{name}" if name in known else name, values, strict=False))
        return pl.DataFrame(frame)

    def show(self) -> None:
        """Show the hits: as a table in a terminal, with their images in a notebook."""
        from retrieval.display import show  # late: no search needs it

        show(self)

    def _repr_html_(self) -> str:
        from retrieval.notebook import answer_html  # late: no search needs it

        return answer_html(self)

    @property
    def findings_unread(self) -> int:
        """Hits whose report is in a language without a lexicon: their findings were not read from it."""
        return sum(hit.case.findings_read is False for hit in self.hits)

    def as_json(self) -> dict[str, Any]:
        """The contract's form."""
        return {
            "query": dict(self.query),
            "encoder": dict(self.encoder),
            "took_ms": self.took.as_json(),
            "abstained": self.abstained,
            "reason": self.reason,
            "own_studies": [case.as_json() for case in self.own_studies],
            "hits": [hit.as_json() for hit in self.hits],
            "notes": list(self.notes),
            "findings_unread": self.findings_unread,
        }
