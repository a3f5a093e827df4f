"""What a phrase asks for: the one finding it names and the side it gives it, or why it cannot be answered."""

from dataclasses import dataclass

from corpus.errors import UsageError
from corpus.findings import VOCABULARY, Status
from corpus.language.concepts import Concept, concepts
from retrieval.localize.answer import Side

LONGEST = 1_000
"""Characters of a phrase; more is a report, which is many questions."""
_SIDES: dict[str, Side] = {"right": "right", "left": "left", "bilateral": "both"}


@dataclass(frozen=True, slots=True)
class Question:
    """A phrase understood. `refusal`: why no mask can answer it, in a sentence, where that is so."""

    phrase: str
    finding: str | None
    side: Side | None
    refusal: str | None = None


def read_question(phrase: str) -> Question:
    """Understand a phrase.

    Raises:
        UsageError: it is empty, or as long as a report.
    """
    if not phrase.strip():
        raise UsageError("the phrase to find is empty: name a finding, such as 'right pleural effusion'")
    if len(phrase) > LONGEST:
        raise UsageError(
            f"the phrase has {len(phrase):,} characters: name one finding in at most {LONGEST:,}, and ask "
            "for each finding of a report by itself"
        )
    told = _most_telling(concepts(phrase.replace("_", " ")))
    if not told:
        return Question(phrase, VOCABULARY.find(phrase), None)
    if len(told) > 1:
        names = " and ".join(sorted(finding.replace("_", " ") for finding in told))
        return Question(phrase, None, None, f"The phrase names {names}: ask for each by itself.")
    finding, said = next(iter(told.items()))
    if all(concept.status is Status.ABSENT for concept in said):
        return Question(
            phrase, finding, None, "The phrase denies the finding: what is not there has no place."
        )
    sides = {_SIDES[concept.side] for concept in said if concept.side is not None}
    return Question(phrase, finding, next(iter(sides)) if len(sides) == 1 else "both" if sides else None)


def _most_telling(said: tuple[Concept, ...]) -> dict[str, list[Concept]]:
    """Finding → its concepts, without findings that another one named is a kind of."""
    named = {concept.finding for concept in said}
    above = {parent for finding in named for parent in _parents(finding)}
    return {finding: [concept for concept in said if concept.finding == finding] for finding in named - above}


def _parents(finding: str) -> list[str]:
    parents = []
    parent = VOCABULARY.parent(finding)
    while parent is not None:
        parents.append(parent)
        parent = VOCABULARY.parent(parent)
    return parents
