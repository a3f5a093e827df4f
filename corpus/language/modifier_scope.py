"""The scope of modifiers: laterality, zone and severity of each finding in a statement.

A modifier belongs to the finding in its phrase: words before it, back to the "and" or comma that opens the
phrase, and words after it, up to the next one. A list of locations is one each ("in the right upper and left
lower lobes"), and findings joined without words between them share a location ("effusion and atelectasis at
the left base"). The words themselves are in `corpus.language.modifiers`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from corpus.findings import SUPPORT_DEVICES, VOCABULARY, Status
from corpus.language.assertion import LocatedFinding, LocatedStatement
from corpus.language.modifiers import Laterality, Link, Meaning, Modifier
from corpus.language.phrases import Match


class _Phrase(NamedTuple):
    """A run of words between two links.

    `modifier`: what it states.
    `pure`: it has only modifiers, and words that lead to them.
    `located`: it states a location by "in", "at", ….
    """

    modifier: Modifier
    pure: bool
    located: bool


_EMPTY = Modifier()


@dataclass(slots=True)
class _Anchor:
    """A phrase that names findings, and the modifiers before and after it."""

    start: int
    end: int
    findings: list[LocatedFinding]
    inside: Modifier
    before: list[Modifier]
    after: list[Modifier]
    follows: bool = False  # joined to the finding before it without a location of its own


class Links:
    """The modifiers and links of a sentence, by position."""

    def __init__(self, matches: Sequence[Match[Meaning]]) -> None:
        self._matches = matches
        self._starts = [match.start for match in matches]

    def within(self, start: int, end: int) -> Sequence[Match[Meaning]]:
        """Return those that begin among the words `start` to `end` (exclusive)."""
        return self._matches[bisect_left(self._starts, start) : bisect_left(self._starts, end)]

    def phrases(self, start: int, end: int) -> list[_Phrase]:
        """Split the words `start` to `end` (exclusive) at their links, into at least one phrase."""
        phrases: list[_Phrase] = []
        modifiers: list[Modifier] = []
        covered, pure, located = start, True, False
        for match in self.within(start, end):
            pure &= match.start <= covered and match.meaning is not None
            covered = match.end
            if isinstance(match.meaning, Modifier):
                modifiers.append(match.meaning)
            elif match.meaning is Link.LOCATE:
                located = True
            elif match.meaning in (Link.PART, Link.BRIDGE):
                phrases.append(_Phrase(_gather(modifiers), pure, located))
                modifiers, pure, located = [], True, False
        phrases.append(_Phrase(_gather(modifiers), pure and covered >= end, located))
        return phrases


def locate_modifiers(statement: LocatedStatement, links: Links) -> Iterator[tuple[LocatedFinding, Modifier]]:
    """Yield each finding of a statement with its modifiers, once for each location.

    Args:
        statement: a statement, with the positions of its words.
        links: the modifiers and links of that sentence.
    """
    anchors = _anchors(statement, links)
    if not anchors:
        return
    _before_first(anchors[0], links.phrases(statement.start, anchors[0].start))
    for one, other in pairwise(anchors):
        _between(one, other, links)
    _after_last(anchors[-1], links.phrases(anchors[-1].end, statement.end))
    by_anchor = [_modifiers_of(anchor) for anchor in anchors]
    _share(anchors, by_anchor)
    for anchor, modifiers in zip(anchors, by_anchor, strict=True):
        for located in anchor.findings:
            for modifier in modifiers:
                yield located, modifier


def _anchors(statement: LocatedStatement, links: Links) -> list[_Anchor]:
    anchors: dict[tuple[int, int], _Anchor] = {}
    for located in sorted(statement.findings, key=lambda located: located.start):
        span = (located.start, located.end)
        if span not in anchors:
            # "Collapse of the right lung" has its location inside; a severity there is part of the finding's
            # name.
            meanings = (match.meaning for match in links.within(*span))
            inside = _gather(m._replace(degree=None) for m in meanings if isinstance(m, Modifier))
            anchors[span] = _Anchor(*span, [], inside, [], [])
        anchors[span].findings.append(located)
    return list(anchors.values())


def _gather(modifiers: Iterable[Modifier]) -> Modifier:
    """Combine the modifiers of one phrase."""
    stated = list(modifiers)
    sides = {m.side for m in stated} - {None}
    # "The right lung bases" are the right one; "right greater than left" is both.
    one_sided = sides - {"bilateral"}
    side = next(iter(one_sided)) if len(one_sided) == 1 else "bilateral" if sides else None
    zone = next((m.zone for m in stated if m.zone), None)
    return Modifier(side, zone, next((m.degree for m in stated if m.degree), None))


def _before_first(anchor: _Anchor, phrases: Sequence[_Phrase]) -> None:
    """Add the phrase that ends in the finding, and the locations of a list that it closes."""
    own = phrases[-1]
    # "Severe deformity of the chest with …": no severity of the finding.
    stated = [own.modifier if own.pure or not own.located else own.modifier._replace(degree=None)]
    for phrase in reversed(phrases[:-1]):
        if not phrase.pure:
            # "In the right base, there is a small …": used where the finding has no location of its own.
            if phrase.located and not any(_has_location(m) for m in stated):
                stated.append(phrase.modifier._replace(degree=None))
            break
        stated.append(phrase.modifier)
    anchor.before.extend(reversed(stated))


def _after_last(anchor: _Anchor, phrases: Sequence[_Phrase]) -> None:
    """Add the phrase that the finding opens, and attributes after it: ", small"."""
    first = phrases[0]
    anchor.after.append(
        first.modifier if first.pure or first.located else first.modifier._replace(degree=None)
    )
    for phrase in phrases[1:]:
        if not phrase.pure:
            break
        anchor.after.append(phrase.modifier)


def _between(one: _Anchor, other: _Anchor, links: Links) -> None:
    """Distribute the words between two findings."""
    between = links.within(one.end, other.start)
    bridge = next((match for match in between if match.meaning is Link.BRIDGE), None)
    if bridge is not None:
        _after_last(one, links.phrases(one.end, bridge.start))
        _before_first(other, links.phrases(bridge.end, other.start))
        other.follows = not any(_has_location(m) for m in other.before)
        return
    first, *middle = links.phrases(one.end, other.start)
    if not middle:
        # No link between them: "in the …" belongs to the first one, bare words to the second.
        (one.after if first.located else other.before).append(first.modifier)
        other.follows = first.modifier == _EMPTY
        return
    *middle, last = middle
    one.after.append(first.modifier)
    listing = _has_location(first.modifier)
    for phrase in middle:
        apposed = phrase.modifier.degree is not None and not _has_location(phrase.modifier)
        if phrase.pure and (apposed or listing):
            one.after.append(phrase.modifier)
        elif phrase.pure:
            other.before.append(phrase.modifier)
    other.before.append(last.modifier)
    other.follows = last.pure and not any(_has_location(m) for m in other.before)


def _has_location(modifier: Modifier) -> bool:
    return modifier.side is not None or modifier.zone is not None


def _modifiers_of(anchor: _Anchor) -> list[Modifier]:
    """Return the modifiers of a finding, one for each location."""
    before, after = _expand_list(anchor.before), _expand_list(anchor.after)
    degree = next((m.degree for m in (*before, *after) if m.degree), None)
    chosen = before
    if any(_has_location(m) for m in after):
        both = any(m == Modifier("bilateral", None, m.degree) for m in before)
        covered = {m.side for m in after}
        # "Bilateral effusions, larger on the right" stay bilateral.
        if not both or "bilateral" in covered or covered >= {"right", "left"}:
            chosen = after if not any(_has_location(m) for m in before) else _complete_list(before, after)
    chosen = [_completed(m, anchor.inside) for m in chosen] or [anchor.inside]
    return [m._replace(degree=m.degree or degree) for m in chosen]


def _expand_list(modifiers: Iterable[Modifier]) -> list[Modifier]:
    """Complete the entries of a list: "right upper and lower lobes", "right and left bases"."""
    stated = [m for m in modifiers if m != _EMPTY]
    entries = [m for m in stated if _has_location(m)]
    if not entries:
        return stated[:1]
    degrees = {m.degree for m in stated if m.degree}
    shared = next(iter(degrees)) if len(degrees) == 1 else None
    for forward in (True, False):
        side: Laterality | None = None
        for number in range(len(entries)) if forward else reversed(range(len(entries))):
            if entries[number].side is None:
                entries[number] = entries[number]._replace(side=side)
            side = entries[number].side
    for number in reversed(range(len(entries) - 1)):
        if entries[number].zone is None:
            entries[number] = entries[number]._replace(zone=entries[number + 1].zone)
    entries = [m._replace(degree=m.degree or shared) for m in entries]
    return _both_sides(entries)


def _both_sides(entries: list[Modifier]) -> list[Modifier]:
    """Merge right and left of the same zone and severity to bilateral."""
    merged: list[Modifier] = []
    for entry in entries:
        opposite = next(
            (
                m
                for m in merged
                if (m.zone, m.degree) == (entry.zone, entry.degree)
                and {m.side, entry.side} == {"right", "left"}
            ),
            None,
        )
        if opposite is not None:
            merged[merged.index(opposite)] = opposite._replace(side="bilateral")
        elif entry not in merged:
            merged.append(entry)
    return merged


def _complete_list(before: list[Modifier], after: list[Modifier]) -> list[Modifier]:
    """Complete the locations before a finding and after it: each takes from the other what it lacks."""
    if len(before) > len(after):
        before, after = after, before
    return [_completed(m, before[0]) if len(before) == 1 else m for m in after]


def _completed(modifier: Modifier, other: Modifier) -> Modifier:
    return Modifier(modifier.side or other.side, modifier.zone or other.zone, modifier.degree or other.degree)


def _share(anchors: Sequence[_Anchor], by_anchor: list[list[Modifier]]) -> None:
    """Let findings joined without words between them share a location: forward, then backward."""
    steps = [(n - 1, n) for n in range(1, len(anchors))]
    for giver, taker in (*steps, *((n, m) for m, n in reversed(steps))):
        later = max(giver, taker)
        if not anchors[later].follows or any(_has_location(m) for m in by_anchor[taker]):
            continue
        if giver > taker and not any(_has_location(m) for m in anchors[giver].after):
            continue  # a location before the second is its own
        if _can_share_location(anchors[giver], anchors[taker]):
            degree = by_anchor[taker][0].degree
            zoned = all(_in_the_lung(c.finding) for a in (giver, taker) for c in anchors[a].findings)
            shared = dict.fromkeys(
                Modifier(m.side, m.zone if zoned else None, degree)
                for m in by_anchor[giver]
                if _has_location(m)
            )
            by_anchor[taker] = list(shared) or by_anchor[taker]


def _can_share_location(one: _Anchor, other: _Anchor) -> bool:
    """Return whether two findings can share a location: of one polarity, and neither a device."""
    denied = {c.status is Status.ABSENT for c in (*one.findings, *other.findings)}
    named = {c.finding for c in (*one.findings, *other.findings)}
    return len(denied) == 1 and SUPPORT_DEVICES not in named


def _in_the_lung(finding: str) -> bool:
    return "lung_opacity" in (finding, *VOCABULARY.ancestors(finding))
