"""What a report says, as concepts: a finding, its status, and the place and degree that it has there.

"Small right effusion and large left pneumothorax" are two concepts, each with its own side and degree. The
findings and their statuses are the labeler's (`corpus.language.assertion`), the words that go to each of them
are dealt out by `corpus.language.modifier_scope`; here they become concepts, told once, and the impression
has the last word.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from corpus.findings import SUPPORT_DEVICES, Status
from corpus.language.assertion import LocatedStatement, locate
from corpus.language.detection import Reader, lexicon_of
from corpus.language.labeler import film_sentences
from corpus.language.lexicon import ENGLISH, Lexicon
from corpus.language.modifier_scope import Links, place_words
from corpus.language.modifiers import TABLE, WITHIN, Degree, Modifier, Side, Zone
from corpus.language.sections import parse_report
from corpus.records import Report

MIDLINE = frozenset({"cardiomegaly", "enlarged_cardiomediastinum", "hernia", "no_finding"})
"""Findings that have no side and no zone."""

UNGRADED = frozenset({SUPPORT_DEVICES, "fracture", "no_finding"})
"""Findings that have no degree: a minimally displaced fracture is not a small one."""


@dataclass(frozen=True, slots=True)
class Concept:
    """One finding as a text speaks of it.

    `finding`: a name of the vocabulary. `status`: present, absent or uncertain. `side` (the patient's),
    `zone` and `degree` are None where the text does not tell them.
    """

    finding: str
    status: Status
    side: Side | None = None
    zone: Zone | None = None
    degree: Degree | None = None


def concepts(text: str) -> tuple[Concept, ...]:
    """Return the concepts of a report or of one sentence, as `report_concepts` does."""
    return report_concepts(parse_report("text", text))


def report_concepts(report: Report) -> tuple[Concept, ...]:
    """Return the concepts of what a report says of the film, finding by finding, none of them twice.

    Where findings and impression differ on a finding in one place, the impression's word counts, and over
    both an addendum's. A concept that tells no more than another is left out: "effusion" beside "small right
    effusion", and "no right effusion" beside "no effusion". Time grows with the length of the text. Places
    and degrees are read in English only; a report in a language that has no lexicon has no concepts.
    """
    lexicon = lexicon_of(report.language)
    if lexicon is None:
        return ()
    reader = Reader(lexicon, report.described)
    described: list[Concept] = []
    concluded: list[Concept] = []
    addenda: list[list[Concept]] = []
    for section in report.sections:
        told = concluded if section.name == "impression" else described
        if section.name == "addendum":
            addenda.append(told := [])
        for sentence in film_sentences(section, lexicon):
            told.extend(sentence_concepts(sentence, reader.of(sentence)))
    kept: list[Concept] = []
    for told in (described, concluded, *addenda):
        final = _by_finding(told)
        kept = [c for c in kept if not any(_overrules(said, c) for said in final.get(c.finding, ()))]
        kept += dict.fromkeys(told)
    distinct = _by_finding(kept)
    return tuple(
        c for same in distinct.values() for c in same if not any(_tells_more(other, c) for other in same)
    )


def _by_finding(told: Iterable[Concept]) -> dict[str, list[Concept]]:
    """The different concepts of each finding: there are only so many, however long a text is."""
    of: dict[str, list[Concept]] = {}
    for concept in dict.fromkeys(told):
        of.setdefault(concept.finding, []).append(concept)
    return of


def sentence_concepts(sentence: str, lexicon: Lexicon = ENGLISH) -> Iterator[Concept]:
    """Yield the concepts of one sentence, statement by statement; what two statements say comes twice."""
    tokens = lexicon.tokens(sentence)
    statements = locate(tokens, lexicon)
    if not any(statement.findings for statement in statements):
        return
    if (
        lexicon.language != "en"
    ):  # no place rather than a wrong one: `corpus.language.modifiers` holds English words
        for statement in statements:
            yield from _unite(Concept(claim.finding, claim.status) for claim in statement.findings)
        return
    links = Links(TABLE.find(tokens))
    for statement in _joined(statements, tokens):
        yield from _read_statement(statement, links)


def _joined(statements: Iterable[LocatedStatement], tokens: Sequence[str]) -> Iterator[LocatedStatement]:
    """Give the words of a statement that names nothing to the one before it, or to the one it introduces."""
    held: LocatedStatement | None = None
    for statement in statements:
        if held is None:
            held = statement
        elif not statement.names_something and held.findings:  # "effusion, but it is small"
            held = held._replace(end=statement.end)
        elif not held.names_something and tokens[statement.start] == "there":  # "in the left base there is"
            held = statement._replace(start=held.start)
        else:
            yield held
            held = statement
    if held is not None:
        yield held


def _read_statement(statement: LocatedStatement, links: Links) -> Iterator[Concept]:
    yield from _unite(
        Concept(claim.finding, claim.status, *_fit(claim.finding, modifier))
        for claim, modifier in place_words(statement, links)
    )


def _fit(finding: str, said: Modifier) -> Modifier:
    """Leave out what a finding does not have."""
    if finding in MIDLINE:
        return Modifier(degree=said.degree)
    return said._replace(degree=None) if finding in UNGRADED else said


def _unite(found: Iterable[Concept]) -> Iterator[Concept]:
    """Make one of two phrases of a statement for one finding: "the right angle is blunted by an effusion"."""
    united: dict[str, list[Concept]] = {}
    for concept in dict.fromkeys(found):
        same = united.setdefault(concept.finding, [])
        place = next((n for n, other in enumerate(same) if _same_thing(other, concept)), None)
        if place is None:
            same.append(concept)
            continue
        other = same[place]
        sure = Status.PRESENT in (other.status, concept.status)
        same[place] = Concept(
            concept.finding,
            Status.PRESENT if sure else concept.status,
            other.side or concept.side,
            other.zone or concept.zone,
            other.degree or concept.degree,
        )
    for same in united.values():
        yield from same


def _same_thing(one: Concept, other: Concept) -> bool:
    return (
        one.finding == other.finding
        and (one.status is Status.ABSENT) == (other.status is Status.ABSENT)
        and all(
            a is None or b is None or a == b
            for a, b in ((one.side, other.side), (one.zone, other.zone), (one.degree, other.degree))
        )
    )


def _overrules(said: Concept, concept: Concept) -> bool:
    """Whether a conclusion gives the finding another status in the same place."""
    return (
        said.finding == concept.finding
        and said.status is not concept.status
        and (
            said.side == concept.side
            or None in (said.side, concept.side)
            or "bilateral" in (said.side, concept.side)
        )
    )


def _tells_more(other: Concept, concept: Concept) -> bool:
    """Whether another concept says all that this one does, and more."""
    if other == concept or (other.finding, other.status) != (concept.finding, concept.status):
        return False
    wide, narrow = (other, concept) if concept.status is Status.ABSENT else (concept, other)
    return _covers(wide, narrow)


def _covers(wide: Concept, narrow: Concept) -> bool:
    return (
        wide.side in (None, narrow.side)
        and (
            wide.zone in (None, narrow.zone)
            or (narrow.zone is not None and WITHIN.get(narrow.zone) == wide.zone)
        )
        and wide.degree in (None, narrow.degree)
    )
