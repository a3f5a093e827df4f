"""Concepts of a report: a finding, its status, laterality, zone and severity.

"Small right effusion and large left pneumothorax" are two concepts, each with its own attributes. The
findings and their statuses are the labeler's (`corpus.language.assertion`); `corpus.language.modifier_scope`
assigns the modifiers. Here they become concepts without repetition, in which the impression overrides the
findings.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from corpus.findings import SUPPORT_DEVICES, Status
from corpus.language.assertion import LocatedStatement, locate
from corpus.language.detection import Reader, lexicon_of
from corpus.language.labeler import descriptive_sentences
from corpus.language.lexicon import ENGLISH, Lexicon
from corpus.language.modifier_scope import Links, locate_modifiers
from corpus.language.modifiers import MODIFIER_PHRASES, PARENT_ZONE, Laterality, Modifier, Severity, Zone
from corpus.language.sections import parse_report
from corpus.records import Report

MIDLINE = frozenset({"cardiomegaly", "enlarged_cardiomediastinum", "hernia", "no_finding"})
"""Findings without laterality and zone."""

UNGRADED = frozenset({SUPPORT_DEVICES, "fracture", "no_finding"})
"""Findings without severity: a minimally displaced fracture is not a small one."""


@dataclass(frozen=True, slots=True)
class Concept:
    """One finding as a text describes it.

    `finding`: a name of the vocabulary.
    `status`: present, absent or uncertain.
    `side`: the patient's laterality, None where it is not stated.
    `zone`: of the lung, None where it is not stated.
    `degree`: severity, None where it is not stated.
    """

    finding: str
    status: Status
    side: Laterality | None = None
    zone: Zone | None = None
    degree: Severity | None = None


def concepts(text: str) -> tuple[Concept, ...]:
    """Return the concepts of a report or of one sentence, as `report_concepts` does."""
    return report_concepts(parse_report("text", text))


def report_concepts(report: Report) -> tuple[Concept, ...]:
    """Return the concepts of the text that describes the image, finding by finding, without repetition.

    Where findings and impression differ on a finding in one location, the impression decides, and an addendum
    over both. A concept that is less specific than another is left out: "effusion" beside "small right
    effusion", and "no right effusion" beside "no effusion". Time is linear in the length of the text.
    Modifiers are read in English only; a report in a language without a lexicon has no concepts.
    """
    lexicon = lexicon_of(report.language)
    if lexicon is None:
        return ()
    reader = Reader(lexicon, report.described)
    described: list[Concept] = []
    concluded: list[Concept] = []
    addenda: list[list[Concept]] = []
    for section in report.sections:
        current = concluded if section.name == "impression" else described
        if section.name == "addendum":
            addenda.append(current := [])
        for sentence in descriptive_sentences(section, lexicon):
            current.extend(sentence_concepts(sentence, reader.of(sentence)))
    resolved: list[Concept] = []
    for current in (described, concluded, *addenda):
        final = _by_finding(current)
        resolved = [
            c
            for c in resolved
            if not any(_overrules(conclusion, c) for conclusion in final.get(c.finding, ()))
        ]
        resolved += dict.fromkeys(current)
    distinct = _by_finding(resolved)
    return tuple(
        c
        for same in distinct.values()
        for c in same
        if not any(_is_more_specific(other, c) for other in same)
    )


def _by_finding(found: Iterable[Concept]) -> dict[str, list[Concept]]:
    """Return the different concepts of each finding: few, however long the text is."""
    of: dict[str, list[Concept]] = {}
    for concept in dict.fromkeys(found):
        of.setdefault(concept.finding, []).append(concept)
    return of


def sentence_concepts(sentence: str, lexicon: Lexicon = ENGLISH) -> Iterator[Concept]:
    """Yield the concepts of one sentence, statement by statement; a repeated one comes twice."""
    tokens = lexicon.tokens(sentence)
    statements = locate(tokens, lexicon)
    if not any(statement.findings for statement in statements):
        return
    if lexicon.language != "en":  # `corpus.language.modifiers` has English words only
        for statement in statements:
            yield from _unite(Concept(claim.finding, claim.status) for claim in statement.findings)
        return
    links = Links(MODIFIER_PHRASES.find(tokens))
    for statement in _merge_statements(statements, tokens):
        yield from _read_statement(statement, links)


def _merge_statements(
    statements: Iterable[LocatedStatement], tokens: Sequence[str]
) -> Iterator[LocatedStatement]:
    """Merge a statement that names nothing with the one before it, or with the one it introduces."""
    pending: LocatedStatement | None = None
    for statement in statements:
        if pending is None:
            pending = statement
        elif not statement.names_something and pending.findings:  # "effusion, but it is small"
            pending = pending._replace(end=statement.end)
        elif (
            not pending.names_something and tokens[statement.start] == "there"
        ):  # "in the left base there is"
            pending = statement._replace(start=pending.start)
        else:
            yield pending
            pending = statement
    if pending is not None:
        yield pending


def _read_statement(statement: LocatedStatement, links: Links) -> Iterator[Concept]:
    yield from _unite(
        Concept(claim.finding, claim.status, *_fit(claim.finding, modifier))
        for claim, modifier in locate_modifiers(statement, links)
    )


def _fit(finding: str, modifier: Modifier) -> Modifier:
    """Drop the attributes that a finding cannot have."""
    if finding in MIDLINE:
        return Modifier(degree=modifier.degree)
    return modifier._replace(degree=None) if finding in UNGRADED else modifier


def _unite(found: Iterable[Concept]) -> Iterator[Concept]:
    """Merge two phrases of a statement for one finding: "the right angle is blunted by an effusion"."""
    united: dict[str, list[Concept]] = {}
    for concept in dict.fromkeys(found):
        same = united.setdefault(concept.finding, [])
        index = next((n for n, other in enumerate(same) if _is_compatible(other, concept)), None)
        if index is None:
            same.append(concept)
            continue
        other = same[index]
        sure = Status.PRESENT in (other.status, concept.status)
        same[index] = Concept(
            concept.finding,
            Status.PRESENT if sure else concept.status,
            other.side or concept.side,
            other.zone or concept.zone,
            other.degree or concept.degree,
        )
    for same in united.values():
        yield from same


def _is_compatible(one: Concept, other: Concept) -> bool:
    return (
        one.finding == other.finding
        and (one.status is Status.ABSENT) == (other.status is Status.ABSENT)
        and all(
            a is None or b is None or a == b
            for a, b in ((one.side, other.side), (one.zone, other.zone), (one.degree, other.degree))
        )
    )


def _overrules(conclusion: Concept, concept: Concept) -> bool:
    """Return whether a conclusion gives the finding another status at the same location."""
    return (
        conclusion.finding == concept.finding
        and conclusion.status is not concept.status
        and (
            conclusion.side == concept.side
            or None in (conclusion.side, concept.side)
            or "bilateral" in (conclusion.side, concept.side)
        )
    )


def _is_more_specific(other: Concept, concept: Concept) -> bool:
    """Return whether another concept implies this one."""
    if other == concept or (other.finding, other.status) != (concept.finding, concept.status):
        return False
    wide, narrow = (other, concept) if concept.status is Status.ABSENT else (concept, other)
    return _covers(wide, narrow)


def _covers(wide: Concept, narrow: Concept) -> bool:
    return (
        wide.side in (None, narrow.side)
        and (
            wide.zone in (None, narrow.zone)
            or (narrow.zone is not None and PARENT_ZONE.get(narrow.zone) == wide.zone)
        )
        and wide.degree in (None, narrow.degree)
    )
