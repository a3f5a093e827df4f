"""The answer to a search, in the shape of `docs/contracts/search.schema.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

from corpus.findings import VOCABULARY, status_lists
from corpus.geometry import Box
from corpus.redaction import redacted
from indexer.catalog.studies import Case
from retrieval.display import Row, answer_html, show
from retrieval.timing import Took

if TYPE_CHECKING:
    import polars as pl

_SNIPPET = 160  # characters

HitKind = Literal["image", "report", "case"]
EvidenceKind = Literal["image", "report", "sentence", "terms", "region", "findings", "duplicate"]


@redacted
@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a study is in the answer: an item of it, its findings, or a near-duplicate that it represents.

    Attributes:
        item_id: the item; of `findings` the study.
        kind: what the evidence is.
        score: of an image, a report and a sentence the cosine with the query; of `terms` the BM25 of the
            report's affirmed words; of a `region` the mean cosine of the box's patches with the nearest ones
            of this image, which are in `box`; of `findings` the agreement in [-1, 1]; of a `duplicate` the
            cosine with the item of the hit, 1 for equal content.
        text: of a sentence.
        contributed: its part of the hit's score; those of all evidence add up to it.
        by: the parts of the query that it answers.
        agree: of `findings`: what the study shows in agreement with those asked for.
        conflict: of `findings`: what it shows in conflict with them.
        box: of a `region`, in pixels of the image as read.
        study_id: of a `duplicate`: the other study.
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
        """The contract's form, without the fields that are not set."""
        always: dict[str, Any] = {"item_id": self.item_id, "kind": self.kind, "score": round(self.score, 6)}
        further: dict[str, Any] = {
            "text": self.text,
            "contributed": None if self.contributed is None else round(self.contributed, 6),
            "by": list(self.by) or None,
            "agree": None if self.agree is None else list(self.agree),
            "conflict": None if self.conflict is None else list(self.conflict),
            "box": None if self.box is None else self.box.as_json(),
            "study_id": self.study_id,
        }
        return always | {name: value for name, value in further.items() if value is not None}


@redacted
@dataclass(frozen=True, slots=True)
class Hit:
    """One study of the answer.

    Attributes:
        rank: from 1.
        score: higher is better; comparable within one answer.
        kind: what was searched for.
        item_id: the best item of the study, or its report where reports were searched for.
        case: the study.
        evidence: why it is in the answer, what contributed most first.
    """

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


@dataclass(frozen=True, slots=True, repr=False)
class Answer(Sequence[Hit]):
    """The answer to one query: a sequence of hits, best first.

    Attributes:
        query: the query, and how its text was understood.
        encoder: name and fingerprint of the encoder.
        hits: the hits.
        own_studies: the studies of the query's own subject, newest first; they are never among the hits.
        took: wall time of each step.
        abstained: whether not one hit can be promised to be similar; None where no promise is made.
        reason: why the answer abstains, what is promised of the hits, or why there is none, in a sentence.
        notes: on the headers of the query's images, see `corpus.images.reader.ImageRead`.
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
    def __getitem__(self, position: int) -> Hit: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, position: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[position]

    def to_polars(self) -> "pl.DataFrame":
        """Return one row per hit: rank, score, ids, findings (lists of names), text, and each attribute."""
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
        show(self)

    def _repr_html_(self) -> str:
        return answer_html(self)

    def rows(self) -> list[Row]:
        """Return the hits as a terminal or a notebook displays them."""
        return [
            Row(
                hit.rank,
                hit.score,
                hit.case.study_id,
                findings_of(hit.case),
                snippet(hit),
                hit.case.path,
                tuple((item.kind, item.score, item.text) for item in hit.evidence),
            )
            for hit in self.hits
        ]

    @property
    def remarks(self) -> tuple[str, ...]:
        """The sentences for the reader: the reason, then the notes."""
        return (*([self.reason] if self.reason else []), *self.notes)

    @property
    def findings_unread(self) -> int:
        """Number of hits with a report in a language without a lexicon, from which no findings were read."""
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


def findings_of(case: Case) -> str:
    """Return the present findings of a case, without parents of a named one; `?` marks an uncertain one."""
    by_status = status_lists(case.findings)
    parents = {parent for name in by_status["present"] for parent in VOCABULARY.ancestors(name)}
    named = [name for name in by_status["present"] if name not in parents]
    uncertain = [f"{name}?" for name in by_status["uncertain"] if name not in parents]
    note = f"report in {case.language}: findings not read" if case.findings_read is False else ""
    return "; ".join(filter(None, (", ".join([*named, *uncertain]), note))) or "–"


def snippet(hit: Hit) -> str:
    """Return the best sentence of a hit, else the beginning of its report, else its strongest evidence."""
    sentence = next((item.text for item in hit.evidence if item.text), None)
    strongest = f"{hit.evidence[0].kind} {hit.evidence[0].score:.2f}" if hit.evidence else hit.item_id
    text = " ".join((sentence or hit.case.text or strongest).split())
    return text if len(text) <= _SNIPPET else text[: _SNIPPET - 1] + "…"
