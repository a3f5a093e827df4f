"""Which words of place and degree in a statement go to which of its findings.

They go to the finding whose phrase they stand in: those before it, back to the "and" or comma that opens its
phrase, and those after it, up to the next one. A list of places is one each ("in the right upper and left
lower lobes"), and findings joined without words of their own share a place ("effusion and atelectasis at the
left base"). The words themselves are in `corpus.language.modifiers`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from corpus.findings import SUPPORT_DEVICES, VOCABULARY, Status
from corpus.language.assertion import Located, LocatedStatement
from corpus.language.modifiers import Link, Meaning, Modifier, Side
from corpus.language.phrases import Match


class _Phrase(NamedTuple):
    """A run of words between two joints: what it says, and whether it says anything else."""

    said: Modifier
    pure: bool  # nothing in it but words of place and degree, and those that carry them
    located: bool  # says where by "in", "at", …


_EMPTY = Modifier()


@dataclass(slots=True)
class _Anchor:
    """A phrase that names findings, and what stands before and after it."""

    start: int
    end: int
    findings: list[Located]
    inside: Modifier
    before: list[Modifier]
    after: list[Modifier]
    follows: bool = False  # joined to the finding before it without words of place of its own


class Links:
    """The words of place, degree and between in a sentence, cut out by their places."""

    def __init__(self, matches: Sequence[Match[Meaning]]) -> None:
        self._matches = matches
        self._starts = [match.start for match in matches]

    def within(self, start: int, end: int) -> Sequence[Match[Meaning]]:
        """Those that begin among the words `start` to `end` (exclusive)."""
        return self._matches[bisect_left(self._starts, start) : bisect_left(self._starts, end)]

    def phrases(self, start: int, end: int) -> list[_Phrase]:
        """Cut the words `start` to `end` (exclusive) at their joints; there is always at least one phrase."""
        phrases: list[_Phrase] = []
        said: list[Modifier] = []
        covered, pure, located = start, True, False
        for match in self.within(start, end):
            pure &= match.start <= covered and match.meaning is not None
            covered = match.end
            if isinstance(match.meaning, Modifier):
                said.append(match.meaning)
            elif match.meaning is Link.LOCATE:
                located = True
            elif match.meaning in (Link.PART, Link.BRIDGE):
                phrases.append(_Phrase(_gather(said), pure, located))
                said, pure, located = [], True, False
        phrases.append(_Phrase(_gather(said), pure and covered >= end, located))
        return phrases


def place_words(statement: LocatedStatement, links: Links) -> Iterator[tuple[Located, Modifier]]:
    """Yield each finding of a statement with what is said of its place and degree, once for each place.

    Args:
        statement: what a stretch of a sentence says, with the places of its words.
        links: the words of place, degree and between of that sentence.
    """
    anchors = _anchors(statement, links)
    if not anchors:
        return
    _before_first(anchors[0], links.phrases(statement.start, anchors[0].start))
    for one, other in pairwise(anchors):
        _between(one, other, links)
    _after_last(anchors[-1], links.phrases(anchors[-1].end, statement.end))
    told = [_places(anchor) for anchor in anchors]
    _share(anchors, told)
    for anchor, modifiers in zip(anchors, told, strict=True):
        for claim in anchor.findings:
            for modifier in modifiers:
                yield claim, modifier


def _anchors(statement: LocatedStatement, links: Links) -> list[_Anchor]:
    anchors: dict[tuple[int, int], _Anchor] = {}
    for claim in sorted(statement.findings, key=lambda claim: claim.start):
        span = (claim.start, claim.end)
        if span not in anchors:
            # "Collapse of the right lung" holds its place; its words of degree are the finding's name.
            said = (match.meaning for match in links.within(*span))
            inside = _gather(m._replace(degree=None) for m in said if isinstance(m, Modifier))
            anchors[span] = _Anchor(*span, [], inside, [], [])
        anchors[span].findings.append(claim)
    return list(anchors.values())


def _gather(said: Iterable[Modifier]) -> Modifier:
    """What the words of one phrase say together."""
    told = list(said)
    sides = {m.side for m in told} - {None}
    # "The right lung bases" are the right one; "right greater than left" is both.
    one_sided = sides - {"bilateral"}
    side = next(iter(one_sided)) if len(one_sided) == 1 else "bilateral" if sides else None
    zone = next((m.zone for m in told if m.zone), None)
    return Modifier(side, zone, next((m.degree for m in told if m.degree), None))


def _before_first(anchor: _Anchor, phrases: Sequence[_Phrase]) -> None:
    """Take the phrase that ends in the finding, and the places of a list that it closes."""
    own = phrases[-1]
    # "Severe deformity of the chest with …": not how much of the finding there is.
    told = [own.said if own.pure or not own.located else own.said._replace(degree=None)]
    for phrase in reversed(phrases[:-1]):
        if not phrase.pure:
            # "In the right base, there is a small …": a place told apart, where none is told at the finding.
            if phrase.located and not any(_has_place(m) for m in told):
                told.append(phrase.said._replace(degree=None))
            break
        told.append(phrase.said)
    anchor.before.extend(reversed(told))


def _after_last(anchor: _Anchor, phrases: Sequence[_Phrase]) -> None:
    """Take the phrase that the finding opens, and what is added to it: ", small"."""
    first = phrases[0]
    anchor.after.append(first.said if first.pure or first.located else first.said._replace(degree=None))
    for phrase in phrases[1:]:
        if not phrase.pure:
            break
        anchor.after.append(phrase.said)


def _between(one: _Anchor, other: _Anchor, links: Links) -> None:
    """Deal the words between two findings out to them."""
    between = links.within(one.end, other.start)
    bridge = next((match for match in between if match.meaning is Link.BRIDGE), None)
    if bridge is not None:
        _after_last(one, links.phrases(one.end, bridge.start))
        _before_first(other, links.phrases(bridge.end, other.start))
        other.follows = not any(_has_place(m) for m in other.before)
        return
    first, *middle = links.phrases(one.end, other.start)
    if not middle:
        # No joint between them: what "in the …" places is the first one's, bare words are the second's.
        (one.after if first.located else other.before).append(first.said)
        other.follows = first.said == _EMPTY
        return
    *middle, last = middle
    one.after.append(first.said)
    listing = _has_place(first.said)
    for phrase in middle:
        apposed = phrase.said.degree is not None and not _has_place(phrase.said)
        if phrase.pure and (apposed or listing):
            one.after.append(phrase.said)
        elif phrase.pure:
            other.before.append(phrase.said)
    other.before.append(last.said)
    other.follows = last.pure and not any(_has_place(m) for m in other.before)


def _has_place(modifier: Modifier) -> bool:
    return modifier.side is not None or modifier.zone is not None


def _places(anchor: _Anchor) -> list[Modifier]:
    """Return what is said of a finding, a modifier for each place it is said to be in."""
    before, after = _list_out(anchor.before), _list_out(anchor.after)
    degree = next((m.degree for m in (*before, *after) if m.degree), None)
    chosen = before
    if any(_has_place(m) for m in after):
        both = any(m == Modifier("bilateral", None, m.degree) for m in before)
        covered = {m.side for m in after}
        # "Bilateral effusions, larger on the right" stay bilateral.
        if not both or "bilateral" in covered or covered >= {"right", "left"}:
            chosen = after if not any(_has_place(m) for m in before) else _match(before, after)
    chosen = [_filled(m, anchor.inside) for m in chosen] or [anchor.inside]
    return [m._replace(degree=m.degree or degree) for m in chosen]


def _list_out(said: Iterable[Modifier]) -> list[Modifier]:
    """Make full entries of a list: "right upper and lower lobes", "right and left bases"."""
    told = [m for m in said if m != _EMPTY]
    places = [m for m in told if _has_place(m)]
    if not places:
        return told[:1]
    degrees = {m.degree for m in told if m.degree}
    shared = next(iter(degrees)) if len(degrees) == 1 else None
    for forward in (True, False):
        side: Side | None = None
        for number in range(len(places)) if forward else reversed(range(len(places))):
            if places[number].side is None:
                places[number] = places[number]._replace(side=side)
            side = places[number].side
    for number in reversed(range(len(places) - 1)):
        if places[number].zone is None:
            places[number] = places[number]._replace(zone=places[number + 1].zone)
    places = [m._replace(degree=m.degree or shared) for m in places]
    return _both_sides(places)


def _both_sides(places: list[Modifier]) -> list[Modifier]:
    """Right and left of the same are bilateral."""
    merged: list[Modifier] = []
    for place in places:
        twin = next(
            (
                m
                for m in merged
                if (m.zone, m.degree) == (place.zone, place.degree)
                and {m.side, place.side} == {"right", "left"}
            ),
            None,
        )
        if twin is not None:
            merged[merged.index(twin)] = twin._replace(side="bilateral")
        elif place not in merged:
            merged.append(place)
    return merged


def _match(before: list[Modifier], after: list[Modifier]) -> list[Modifier]:
    """Places told before a finding and after it: each entry takes from the other side what it lacks."""
    if len(before) > len(after):
        before, after = after, before
    return [_filled(m, before[0]) if len(before) == 1 else m for m in after]


def _filled(modifier: Modifier, other: Modifier) -> Modifier:
    return Modifier(modifier.side or other.side, modifier.zone or other.zone, modifier.degree or other.degree)


def _share(anchors: Sequence[_Anchor], told: list[list[Modifier]]) -> None:
    """Let findings joined without words between them share the place of one: forward, then backward."""
    steps = [(n - 1, n) for n in range(1, len(anchors))]
    for giver, taker in (*steps, *((n, m) for m, n in reversed(steps))):
        later = max(giver, taker)
        if not anchors[later].follows or any(_has_place(m) for m in told[taker]):
            continue
        if giver > taker and not any(_has_place(m) for m in anchors[giver].after):
            continue  # what stands before the second is its own
        if _share_places(anchors[giver], anchors[taker]):
            degree = told[taker][0].degree
            zoned = all(_in_the_lung(c.finding) for a in (giver, taker) for c in anchors[a].findings)
            places = dict.fromkeys(
                Modifier(m.side, m.zone if zoned else None, degree) for m in told[giver] if _has_place(m)
            )
            told[taker] = list(places) or told[taker]


def _share_places(one: _Anchor, other: _Anchor) -> bool:
    """Whether two findings can be said to be in one place: both there or both not, and neither a device."""
    denied = {c.status is Status.ABSENT for c in (*one.findings, *other.findings)}
    named = {c.finding for c in (*one.findings, *other.findings)}
    return len(denied) == 1 and SUPPORT_DEVICES not in named


def _in_the_lung(finding: str) -> bool:
    above: str | None = finding
    while above is not None and above != "lung_opacity":
        above = VOCABULARY.parent(above)
    return above is not None
