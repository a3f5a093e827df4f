"""The question in a phrase: the one finding it names and its side, or why no mask can answer it."""

from dataclasses import dataclass

from corpus.errors import UsageError
from corpus.findings import VOCABULARY, Status
from corpus.language.concepts import Concept, concepts
from retrieval.localize.answer import MaskLaterality

LONGEST = 1_000
"""Characters of a phrase; a longer text is a report, which is many questions."""
_SIDES: dict[str, MaskLaterality] = {"right": "right", "left": "left", "bilateral": "both"}


@dataclass(frozen=True, slots=True)
class Question:
    """A parsed phrase.

    `phrase`: as given.
    `finding`: the vocabulary's name; None where the phrase names none, or several.
    `side`: the patient's, where the phrase states one.
    `refusal`: a sentence that says why no mask can answer it; None where one can.
    """

    phrase: str
    finding: str | None
    side: MaskLaterality | None
    refusal: str | None = None


def read_question(phrase: str) -> Question:
    """Return the question in a phrase.

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
    named = _most_specific(concepts(phrase.replace("_", " ")))
    if not named:
        return Question(phrase, VOCABULARY.find(phrase), None)
    if len(named) > 1:
        names = " and ".join(sorted(finding.replace("_", " ") for finding in named))
        return Question(phrase, None, None, f"The phrase names {names}: ask for each by itself.")
    finding, mentions = next(iter(named.items()))
    if all(concept.status is Status.ABSENT for concept in mentions):
        return Question(
            phrase, finding, None, "The phrase denies the finding: what is not there has no location."
        )
    sides = {_SIDES[concept.side] for concept in mentions if concept.side is not None}
    return Question(phrase, finding, next(iter(sides)) if len(sides) == 1 else "both" if sides else None)


def _most_specific(mentions: tuple[Concept, ...]) -> dict[str, list[Concept]]:
    """Finding → its concepts, without the parents of other findings that are named."""
    named = {concept.finding for concept in mentions}
    above = {parent for finding in named for parent in VOCABULARY.ancestors(finding)}
    return {
        finding: [concept for concept in mentions if concept.finding == finding] for finding in named - above
    }
