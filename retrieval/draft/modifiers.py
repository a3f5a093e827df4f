"""Words of place and degree in a neighbour's sentence, weighed against this picture.

A neighbour's effusion may be small and on the right; this one's need not be. A side or a zone stays where the
localization of this very picture agrees; otherwise its words are taken out and the reader is asked for it
("side?"). A degree is always asked: no map tells how large a radiologist would call a finding.
"""

import re
from dataclasses import dataclass

from corpus.language.modifiers import TABLE, WITHIN, Modifier, Side, Zone
from corpus.language.phrases import words
from corpus.redaction import redacted
from retrieval.draft.redaction import tidy

_HEADS = frozenset(
    words(
        "lobe lobes lung lungs zone zones field fields region regions area areas aspect aspects portion "
        "portions base bases apex apices hemithorax side sides hilum hila chest space spaces angle angles "
        "sulcus"
    )
)
"""Nouns in which a phrase of place ends: "in the right lower lobe"."""
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
class Agreed:
    """Where the localization of this picture sees a finding. None: it does not say."""

    side: Side | None = None
    zone: Zone | None = None


@redacted
@dataclass(frozen=True, slots=True)
class Placed:
    """A sentence with only the places that this picture shows.

    `questions`: what is asked of side, zone and severity, in this order. `kept`: what of side and zone it
    tells.
    """

    text: str
    questions: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        """The sentence as it stands in the draft, the questions in brackets before its end."""
        body = self.text.rstrip(" .")
        marks = " ".join(f"{question}?" for question in self.questions)
        return f"{body} ({marks})." if marks else f"{body}."


def place(sentence: str, agreed: Agreed) -> Placed | None:
    """Keep what the picture agrees with; take out the rest and ask. None where no grammatical sentence is
    left.
    """
    compared = _COMPARED.search(sentence)
    text = _COMPARED.sub("", sentence) if compared else sentence
    spans = _spans(text)
    if spans is None:
        return None
    tokens = [token for token, _, _ in spans]
    matches = [m for m in TABLE.find(tokens) if isinstance(m.meaning, Modifier)]
    questions: set[str] = {"side"} if compared else set()
    kept: set[str] = set()
    gone: set[int] = set()
    for match in matches:
        said = match.meaning
        assert isinstance(said, Modifier)
        unsupported = _unsupported(said, agreed)
        if unsupported:
            questions |= unsupported
            gone |= set(range(match.start, match.end))
        else:
            kept |= {name for name, told in (("side", said.side), ("zone", said.zone)) if told is not None}
    gone |= _emptied_phrases(tokens, gone)
    if not gone and text == sentence:
        return Placed(sentence, (), tuple(sorted(kept)))
    left = tidy(_without(text, [spans[place] for place in sorted(gone)]))
    if left is None:
        return None
    return Placed(left, tuple(q for q in ("side", "zone", "severity") if q in questions), tuple(sorted(kept)))


def agreement(side: str | None, zone: str | None) -> Agreed:
    """What a localization's answer (`left`, `right`, `both`, and a zone) says in words of place."""
    sides: dict[str | None, Side] = {"left": "left", "right": "right", "both": "bilateral"}
    zones: dict[str, Zone] = {"upper": "upper", "mid": "mid", "middle": "mid", "lower": "lower"}
    return Agreed(sides.get(side), zones.get((zone or "").split()[0] if zone else ""))


def _unsupported(said: Modifier, agreed: Agreed) -> set[str]:
    """What of a word's meaning this picture does not confirm."""
    asked = set()
    if said.side is not None and said.side != agreed.side:
        asked.add("side")
    if said.zone is not None and (
        agreed.zone is None or agreed.zone not in (said.zone, WITHIN.get(said.zone))
    ):
        asked.add("zone")
    if said.degree is not None:
        asked.add("severity")
    return asked


def _spans(text: str) -> list[tuple[str, int, int]] | None:
    """The words of a text with where they stand; None where they cannot be found back."""
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


def _emptied_phrases(tokens: list[str], gone: set[int]) -> set[int]:
    """The rest of a phrase of place whose place went: "in the [right lower] lobe", "at the [left] base"."""
    more: set[int] = set()
    for place in sorted(gone):
        start = place
        while start > 0 and (start - 1 in gone or start - 1 in more or tokens[start - 1] in _LINKING):
            start -= 1
        before = start - 1
        end = place + 1
        while end < len(tokens) and (end in gone or tokens[end] in _HEADS):
            end += 1
        if before >= 0 and tokens[before] in _PREPOSITIONS:
            more |= set(range(before, end))
        else:
            following = place + 1
            while following < len(tokens) and tokens[following] in ("sided", "side"):
                more.add(following)
                following += 1
    return more


def _without(text: str, spans: list[tuple[str, int, int]]) -> str:
    """Cut the words out, with the hyphen that tied one to its neighbour."""
    kept = list(text)
    for _, start, end in spans:
        for at in range(start, end):
            kept[at] = " "
        if end < len(kept) and kept[end] == "-":
            kept[end] = " "
    return "".join(kept)
