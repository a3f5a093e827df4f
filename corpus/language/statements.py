"""The statements of a sentence: its parts that each assert something by themselves.

A sentence is split at "but" and ";", at "there is", and at a comma or "and the" where both sides assert
something ("without focal consolidation, effusion present"), never within a list ("no consolidation, effusion,
or pneumothorax is seen").
"""

from typing import NamedTuple

from corpus.language import mentions
from corpus.language.mentions import Enlarged, Mention, Normal, Structure
from corpus.language.triggers import Assertion, Direction, Syntax, Trigger

Meaning = mentions.Meaning | Trigger | Syntax
Statement = list[Meaning]


def is_denial(item: Meaning) -> bool:
    """Return whether a phrase denies what follows it."""
    return (
        isinstance(item, Trigger)
        and item.direction is Direction.FORWARD
        and item.assertion is Assertion.ABSENT
    )


def split_statements(meanings: Statement) -> list[Statement]:
    """Split a sentence into statements."""
    statements: list[Statement] = []
    clause: Statement = []
    for meaning in meanings:
        if meaning is Syntax.TERMINATION:
            statements.extend(_split_clause(clause))
            clause = []
        else:
            clause.append(meaning)
    statements.extend(_split_clause(clause))
    return [s for s in statements if s]


def name_enlargements(statement: Statement) -> Statement:
    """Replace "enlarged" beside a structure by its finding: an enlarged heart is cardiomegaly."""
    items: Statement = []
    structures: list[Structure] = []
    count = len(statement)
    for index, item in enumerate(statement):
        if isinstance(item, Structure):
            structures.append(item)
        elif isinstance(item, Normal | Mention):
            structures = []
        elif isinstance(item, Enlarged):
            following = index + 1
            while following < count and statement[following] in (Syntax.ARTICLE, Syntax.DEGREE):
                following += 1
            if (
                structures
                and _is_apart(statement, index)
                and statement[following : following + 1] == [Syntax.AND]
            ):
                following += 1  # "heart size stable, enlarged and tortuous aorta"
            beside = statement[following] if following < count else None
            if isinstance(beside, Structure):
                named = [beside]
            else:
                named = [] if isinstance(beside, Mention) else structures
            findings = tuple(dict.fromkeys(f for s in named for f in s.enlarged))
            items.append(Mention(findings) if findings else item)
            structures = []
            continue
        items.append(item)
    return items


def _is_apart(statement: Statement, index: int) -> bool:
    """Return whether a comma stands before a phrase, with no more than a degree between."""
    before = index - 1
    while before >= 0 and statement[before] is Syntax.DEGREE:
        before -= 1
    return before >= 0 and statement[before] is Syntax.COMMA


class _Segment(NamedTuple):
    """The properties of a stretch between commas that decide where a statement ends."""

    items: Statement
    opening: Meaning  # its first item after the comma; None when it is empty
    claims: bool  # has its own predicate
    triggered: bool  # has a forward trigger
    denies: bool  # has a forward trigger of absence
    listed: bool  # has "or" before its predicate: the end of a list
    degree: bool  # opens with a word like "small" or "the": not a bare item of a list


def _split_clause(clause: Statement) -> list[Statement]:
    """Split a clause at commas, and at "and the", where both sides assert something."""
    if Syntax.COMMA not in clause and Syntax.AND not in clause:
        return [clause]
    segments = [_describe(items) for items in _between_commas(clause)]
    statements: list[Statement] = []
    current: Statement = []
    complete = triggered = denied = False
    or_follows = [False] * (len(segments) + 1)
    for index in range(len(segments) - 1, -1, -1):
        or_follows[index] = or_follows[index + 1] or segments[index].listed
    for index, segment in enumerate(segments):
        continues = segment.listed or segment.opening is Syntax.OR
        bare_denial = denied and segment.degree and not or_follows[index]
        if current and not continues and ((segment.claims and (complete or triggered)) or bare_denial):
            statements.append(current)
            current, complete, triggered, denied = [], False, False, False
        if current:
            current.append(Syntax.COMMA)
        current.extend(segment.items)
        complete |= segment.claims
        triggered |= segment.triggered
        denied |= segment.denies
    statements.append(current)
    return statements


def _between_commas(clause: Statement) -> list[Statement]:
    """Split at commas; "and" before an article ("and the heart is …") counts as one."""
    parts: list[Statement] = [[]]
    for index, meaning in enumerate(clause):
        following = clause[index + 1] if index + 1 < len(clause) else None
        if meaning is Syntax.COMMA or (meaning is Syntax.AND and following is Syntax.ARTICLE):
            parts.append([])
        else:
            parts[-1].append(meaning)
    return parts


def _describe(items: Statement) -> _Segment:
    """Return the properties of a stretch between commas."""
    content = [i for i in items if i is not Syntax.AND]
    opening = items[0] if items else None
    claims = triggered = denies = listed = named = False
    for index, item in enumerate(content):
        if isinstance(item, Mention | Structure):
            named = True
        elif isinstance(item, Trigger):
            if item.direction is Direction.FORWARD or (item.direction is Direction.EITHER and not named):
                triggered = True
                denies |= item.assertion is Assertion.ABSENT
            else:
                claims = True
        elif item is Syntax.VERB:
            claims |= named  # "visible effusion" claims nothing, "effusion visible" does
        elif isinstance(item, Normal):
            claims = True
        elif item is Syntax.OR:
            listed |= not claims
        elif item is Syntax.DEGREE or isinstance(item, Enlarged):
            claims |= named and not any(isinstance(i, Mention) for i in content[index + 1 : index + 3])
    degree = bool(content) and content[0] in (Syntax.DEGREE, Syntax.ARTICLE)
    return _Segment(items, opening, claims, triggered, denies, listed, degree)
