"""The draft of a report as its reader gets it: marked as unread, each sentence with its sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from corpus.findings import NO_FINDING, VOCABULARY, Status
from corpus.redaction import redacted
from retrieval.draft.sentences import Sentence
from retrieval.draft.votes import Vote

HEADING = "DRAFT – not read"
"""The first line of every draft."""
_SHOWN = 3  # source studies named behind a sentence in the text; the JSON has all


@redacted
@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of the draft.

    `sentence`: with its sources.
    `votes`: on its claims; the first is the one that it was chosen for.
    """

    sentence: Sentence
    votes: tuple[Vote, ...]

    def as_json(self) -> dict[str, Any]:
        """The contract's form."""
        claims = self.sentence.claims
        return {
            "text": self.sentence.wording.with_questions,
            "findings": {
                status.value: [n for n in VOCABULARY.names if claims.get(n) is status]
                for status in (Status.PRESENT, Status.ABSENT)
            },
            "questions": list(self.sentence.wording.questions),
            "votes": [vote.as_json() for vote in self.votes],
            "support": self.sentence.support,
            "sources": [
                {"study_id": s.study_id, "item_id": s.item_id, "text": s.text} for s in self.sentence.sources
            ],
        }


@redacted
@dataclass(frozen=True, slots=True)
class Draft:
    """A draft, or the reason why there is none.

    `query`: the request.
    `encoder`: its name and fingerprint.
    `statements`: the sentences.
    `unworded`: votes that passed and for which no report had a usable sentence.
    `asked_of_reader`: findings that were voted and not localized in the image.
    `neighbours`: the number of images and reports that voted.
    `calibrated_by`: the number of images that the votes were calibrated on; None where they were not.
    `reason`: why there is no draft, or a qualification of it.
    `notes`: on the image's header, see `corpus.images.reader.ImageRead`.
    """

    query: Mapping[str, Any]
    encoder: Mapping[str, str]
    statements: tuple[Statement, ...] = ()
    unworded: tuple[Vote, ...] = ()
    asked_of_reader: tuple[str, ...] = ()
    neighbours: int = 0
    calibrated_by: int | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def findings(self) -> dict[str, Status]:
        """The statements of the draft: finding → present or absent."""
        stated = {vote.finding: vote.status for vote in self.unworded}
        for statement in self.statements:
            stated |= statement.sentence.claims
        return stated

    @property
    def not_assessed(self) -> list[str]:
        """The findings of the vocabulary that the draft does not mention."""
        stated = self.findings
        return [name for name in VOCABULARY.names if name not in stated and name != NO_FINDING]

    def as_json(self) -> dict[str, Any]:
        """The form of `docs/contracts/draft.schema.json`."""
        stated = self.findings
        return {
            "heading": HEADING,
            "query": dict(self.query),
            "encoder": dict(self.encoder),
            "drafted": bool(self.statements or self.unworded),
            "reason": self.reason,
            "findings": {
                status.value: [n for n in VOCABULARY.names if stated.get(n) is status]
                for status in (Status.PRESENT, Status.ABSENT)
            },
            "sentences": [statement.as_json() for statement in self.statements],
            "unworded": [vote.as_json() for vote in self.unworded],
            "asked_of_reader": list(self.asked_of_reader),
            "not_assessed": self.not_assessed,
            "neighbours": self.neighbours,
            "calibrated_by": self.calibrated_by,
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        return f'<pre style="white-space:pre-wrap">{escape(self.text())}</pre>'

    def text(self) -> str:
        """The draft as text with the sources in brackets behind each sentence; ends with a newline."""
        lines = [HEADING]
        if self.reason is not None:
            lines.append(self.reason)
        lines += self.notes
        lines += [
            f"{statement.sentence.wording.with_questions} [{_support(statement)}]"
            for statement in self.statements
        ]
        if self.unworded:
            lines.append(
                "Voted, and no neighbour's sentence fits this image: " + _listed(self.unworded) + "."
            )
        lines += [f"{finding.capitalize()}?" for finding in self.asked_of_reader]
        if self.statements or self.unworded:
            lines.append("Not assessed: " + ", ".join(map(spoken, self.not_assessed)) + ".")
        return "\n".join(lines) + "\n"

    @property
    def body(self) -> str:
        """The sentences alone, as a report's text, for text metrics."""
        return " ".join(statement.sentence.wording.text.rstrip(" .") + "." for statement in self.statements)


def spoken(finding: str) -> str:
    """A finding's name with blanks."""
    return finding.replace("_", " ")


def _support(statement: Statement) -> str:
    vote = statement.votes[0]
    sources = statement.sentence.sources
    named = ", ".join(source.study_id for source in sources[:_SHOWN])
    more = statement.sentence.support - len(sources[:_SHOWN])
    others = f" and {more} more" if more > 0 else ""
    return f"{vote.agree} of {vote.voters} neighbours, {vote.probability:.0%}; {named}{others}"


def _listed(votes: Sequence[Vote]) -> str:
    return ", ".join(
        f"{'no ' if vote.status is Status.ABSENT else ''}{spoken(vote.finding)} "
        f"({vote.agree} of {vote.voters} neighbours, {vote.probability:.0%})"
        for vote in votes
    )
