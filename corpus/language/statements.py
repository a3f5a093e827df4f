"""Where a sentence changes the subject: cut into statements, each of which claims something by itself.

A sentence is cut at "but" and ";", at "there is", and at a comma or "and the" where both sides claim
something of their own ("without focal consolidation, effusion present"), never within a list ("no
consolidation, effusion, or pneumothorax is seen").
"""

from typing import NamedTuple

from corpus.language import mentions
from corpus.language.mentions import Enlarged, Mention, Normal, Structure
from corpus.language.triggers import Claim, Cue, Joint, Side

Meaning = mentions.Meaning | Cue | Joint
Statement = list[Meaning]


def is_denial(item: Meaning) -> bool:
    """Whether a phrase denies what follows it."""
    return isinstance(item, Cue) and item.side is Side.FORWARD and item.claim is Claim.ABSENT


def cut_statements(meanings: Statement) -> list[Statement]:
    """Cut a sentence into statements."""
    statements: list[Statement] = []
    clause: Statement = []
    for meaning in meanings:
        if meaning is Joint.BREAK:
            statements.extend(_part(clause))
            clause = []
        else:
            clause.append(meaning)
    statements.extend(_part(clause))
    return [s for s in statements if s]


class _Segment(NamedTuple):
    """A stretch between commas: what of it matters for where a statement ends."""

    items: Statement
    opening: Meaning  # its first item after the comma; None when it is empty
    claims: bool  # has a predicate of its own
    cued: bool  # has a forward cue
    denies: bool  # has a forward cue of absence
    listed: bool  # has "or" before its predicate: the end of a list
    degree: bool  # opens with a word like "small" or "the": not a bare item of a list


def _part(clause: Statement) -> list[Statement]:
    """Cut a clause at commas, and at "and the", where both sides claim something."""
    if Joint.COMMA not in clause and Joint.AND not in clause:
        return [clause]
    segments = [_describe(items) for items in _between_commas(clause)]
    statements: list[Statement] = []
    current: Statement = []
    complete = cued = denied = False
    or_follows = [False] * (len(segments) + 1)
    for place in range(len(segments) - 1, -1, -1):
        or_follows[place] = or_follows[place + 1] or segments[place].listed
    for place, segment in enumerate(segments):
        continues = segment.listed or segment.opening is Joint.OR
        bare_denial = denied and segment.degree and not or_follows[place]
        if current and not continues and ((segment.claims and (complete or cued)) or bare_denial):
            statements.append(current)
            current, complete, cued, denied = [], False, False, False
        if current:
            current.append(Joint.COMMA)
        current.extend(segment.items)
        complete |= segment.claims
        cued |= segment.cued
        denied |= segment.denies
    statements.append(current)
    return statements


def _between_commas(clause: Statement) -> list[Statement]:
    """Cut at commas; "and" before an article ("and the heart is …") counts as one."""
    parts: list[Statement] = [[]]
    for place, meaning in enumerate(clause):
        following = clause[place + 1] if place + 1 < len(clause) else None
        if meaning is Joint.COMMA or (meaning is Joint.AND and following is Joint.ARTICLE):
            parts.append([])
        else:
            parts[-1].append(meaning)
    return parts


def _describe(items: Statement) -> _Segment:
    """Find what matters of a stretch between commas."""
    content = [i for i in items if i is not Joint.AND]
    opening = items[0] if items else None
    claims = cued = denies = listed = named = False
    for place, item in enumerate(content):
        if isinstance(item, Mention | Structure):
            named = True
        elif isinstance(item, Cue):
            if item.side is Side.FORWARD or (item.side is Side.EITHER and not named):
                cued = True
                denies |= item.claim is Claim.ABSENT
            else:
                claims = True
        elif item is Joint.VERB:
            claims |= named  # "visible effusion" claims nothing, "effusion visible" does
        elif isinstance(item, Normal):
            claims = True
        elif item is Joint.OR:
            listed |= not claims
        elif item is Joint.DEGREE or isinstance(item, Enlarged):
            claims |= named and not any(isinstance(i, Mention) for i in content[place + 1 : place + 3])
    degree = bool(content) and content[0] in (Joint.DEGREE, Joint.ARTICLE)
    return _Segment(items, opening, claims, cued, denies, listed, degree)
