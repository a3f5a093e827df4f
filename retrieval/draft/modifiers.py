"""Modifiers of a neighbour's sentence (laterality, zone, severity), checked against this image.

A neighbour's effusion may be small and on the right; this patient's need not be. A side or a zone stays where
the localization of this image confirms it; otherwise its words are removed and the draft asks the reader for
it ("side?"). The severity is always asked for: no map shows how large a radiologist would call a finding.
"""

import re
from dataclasses import dataclass

from corpus.language.modifiers import MODIFIER_PHRASES, PARENT_ZONE, Laterality, Modifier, Zone
from corpus.language.phrases import words
from corpus.redaction import redacted
from retrieval.draft.exclusions import tidy

_HEADS = frozenset(
    words(
        "lobe lobes lung lungs zone zones field fields region regions area areas aspect aspects portion "
        "portions base bases apex apices hemithorax side sides hilum hila chest space spaces angle angles "
        "sulcus"
    )
)
"""Nouns at the end of a locating phrase: "in the right lower lobe"."""
_PREPOSITIONS = frozenset(
    words("in at on within over overlying involving throughout near along projecting of")
)
_LINKING = frozenset(words("the a an of both more greater than worse and or"))
_COMPARED = re.compile(
    r"[,(]?\s*\b(?:right|left|greater|worse|more|larger|most|greatest|predominantly|especially|particularly|mostly)"
    r"[\s-]+(?:greater|worse|more|larger|prominent|than|in|on|at|the)\b[^.;,)]*[),]?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ConfirmedLocation:
    """The location of a finding that localization of this image confirms; None where it confirms none."""

    side: Laterality | None = None
    zone: Zone | None = None


@redacted
@dataclass(frozen=True, slots=True)
class LocatedSentence:
    """A sentence with only those modifiers that this image confirms.

    `text`: without the removed modifiers.
    `questions`: those of side, zone and severity that the reader is asked for, in this order.
    `confirmed`: those of side and zone that the text states.
    """

    text: str
    questions: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()

    @property
    def with_questions(self) -> str:
        """The sentence as it stands in the draft, the questions in brackets before its end."""
        body = self.text.rstrip(" .")
        marks = " ".join(f"{question}?" for question in self.questions)
        return f"{body} ({marks})." if marks else f"{body}."


def confirm_modifiers(sentence: str, location: ConfirmedLocation) -> LocatedSentence | None:
    """Keep the modifiers that the location confirms, and turn the others into questions.

    Returns:
        None where no grammatical sentence is left.
    """
    compared = _COMPARED.search(sentence)
    text = _COMPARED.sub("", sentence) if compared else sentence
    spans = _spans(text)
    if spans is None:
        return None
    tokens = [token for token, _, _ in spans]
    matches = [m for m in MODIFIER_PHRASES.find(tokens) if isinstance(m.meaning, Modifier)]
    questions: set[str] = {"side"} if compared else set()
    confirmed: set[str] = set()
    removed: set[int] = set()
    for match in matches:
        modifier = match.meaning
        assert isinstance(modifier, Modifier)
        unconfirmed = _unconfirmed(modifier, location)
        if unconfirmed:
            questions |= unconfirmed
            removed |= set(range(match.start, match.end))
        else:
            values = (("side", modifier.side), ("zone", modifier.zone))
            confirmed |= {name for name, value in values if value is not None}
    removed |= _emptied_phrases(tokens, removed)
    if not removed and text == sentence:
        return LocatedSentence(sentence, (), tuple(sorted(confirmed)))
    remaining = tidy(_without(text, [spans[position] for position in sorted(removed)]))
    if remaining is None:
        return None
    ordered = tuple(question for question in ("side", "zone", "severity") if question in questions)
    return LocatedSentence(remaining, ordered, tuple(sorted(confirmed)))


def confirmed_location(side: str | None, zone: str | None) -> ConfirmedLocation:
    """The location in a localization's answer (`left`, `right`, `both`, and a zone) as modifiers."""
    sides: dict[str | None, Laterality] = {"left": "left", "right": "right", "both": "bilateral"}
    zones: dict[str, Zone] = {"upper": "upper", "mid": "mid", "middle": "mid", "lower": "lower"}
    return ConfirmedLocation(sides.get(side), zones.get((zone or "").split()[0] if zone else ""))


def _unconfirmed(modifier: Modifier, location: ConfirmedLocation) -> set[str]:
    """Those of side, zone and severity in a modifier that this image does not confirm."""
    unconfirmed = set()
    if modifier.side is not None and modifier.side != location.side:
        unconfirmed.add("side")
    if modifier.zone is not None and (
        location.zone is None or location.zone not in (modifier.zone, PARENT_ZONE.get(modifier.zone))
    ):
        unconfirmed.add("zone")
    if modifier.degree is not None:
        unconfirmed.add("severity")
    return unconfirmed


def _spans(text: str) -> list[tuple[str, int, int]] | None:
    """The words of a text with their start and end; None where they cannot be found in it."""
    spans = []
    at = 0
    lowered = text.lower()
    for token in words(text):
        start = lowered.find(token, at)
        if start < 0 or any(sign.isalnum() for sign in lowered[at:start]):
            return None
        at = start + len(token)
        spans.append((token, start, at))
    return spans


def _emptied_phrases(tokens: list[str], removed: set[int]) -> set[int]:
    """The rest of a locating phrase without modifier: "in the [left lower] lobe", "at the [left] base"."""
    more: set[int] = set()
    for position in sorted(removed):
        start = position
        while start > 0 and (start - 1 in removed or start - 1 in more or tokens[start - 1] in _LINKING):
            start -= 1
        before = start - 1
        end = position + 1
        while end < len(tokens) and (end in removed or tokens[end] in _HEADS):
            end += 1
        if before >= 0 and tokens[before] in _PREPOSITIONS:
            more |= set(range(before, end))
        else:
            following = position + 1
            while following < len(tokens) and tokens[following] in ("sided", "side"):
                more.add(following)
                following += 1
    return more


def _without(text: str, spans: list[tuple[str, int, int]]) -> str:
    """Replace words by blanks, with the hyphen that joins one to the next."""
    letters = list(text)
    for _, start, end in spans:
        for at in range(start, end):
            letters[at] = " "
        if end < len(letters) and letters[end] == "-":
            letters[end] = " "
    return "".join(letters)
