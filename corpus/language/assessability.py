"""Assessability: the scope of "cannot be assessed" and "incompletely evaluated", and what it implies.

"Pneumothorax cannot be assessed" leaves the finding open. "Small effusion, right base not evaluated" is of
the base: a termination is put before the unassessed part. "Right opacity is incompletely evaluated" is of a
present opacity: the trigger then asserts nothing. Nor does the sign of a question that presupposes the
finding: "Is the effusion larger?". Time is linear in the number of phrases.
"""

from collections.abc import Sequence

from corpus.language.mentions import Mention
from corpus.language.phrases import Match, words
from corpus.language.statements import Meaning
from corpus.language.triggers import Assertion, Direction, Syntax, Trigger

Found = list[Match[Meaning]]

PREPOSITIONS = frozenset(
    words(
        "of in at on within to near along over under overlying above below behind between beneath through "
        "involving throughout across around after following during for by per via adjacent"
    )
)
"""Before a noun phrase: it is a location, and no new subject."""

_CAUSING = frozenset(words("make makes made making render renders rendered rendering"))
"""Verbs with an unassessed object: "atelectasis makes heart size difficult to assess"."""

_QUESTION_WORDS = frozenset(words("is are was were has have had does did what why which how when where"))
_DEFINITE = frozenset(words("the this these his her"))

_MODIFIERS = (Syntax.ARTICLE, Syntax.DEGREE)


def stop_before(match: Match[Meaning]) -> Match[Meaning]:
    """Return a termination of no words before a phrase."""
    return Match(match.start, match.start, Syntax.TERMINATION)


def is_assessability(meaning: Meaning) -> bool:
    """Return whether a phrase states that what stands before it was not assessed."""
    return (
        type(meaning) is Trigger
        and meaning.assertion is Assertion.QUESTION
        and meaning.direction is Direction.BACKWARD
    )


def split_assessability(tokens: Sequence[str], found: Found) -> Found:
    """Return the phrases with a termination before other unassessed parts, and without void triggers."""
    parted: Found = []
    opening = 0  # of the words behind the previous such trigger
    for number, match in enumerate(found):
        if isinstance(match.meaning, Trigger) and is_assessability(match.meaning):
            _split_subject(tokens, parted, opening, match)
            if match.meaning.partly and not _leaves_open(parted[opening:], found[number + 1 : number + 3]):
                match = match._replace(meaning=Syntax.VERB)
            opening = len(parted) + 1
        parted.append(match)
    return parted


def _split_subject(tokens: Sequence[str], parted: Found, opening: int, assessability: Match[Meaning]) -> None:
    """Put a termination between the last finding and other words that were not assessed."""
    comma = joined = False
    for number in range(len(parted) - 1, opening - 1, -1):
        match = parted[number]
        if isinstance(match.meaning, Mention) or match.meaning is Syntax.TERMINATION:
            end = match.end
            made = next((n for n in range(end, assessability.start) if tokens[n] in _CAUSING), None)
            if made is not None:
                parted.insert(number + 1, Match(made, made, Syntax.TERMINATION))
            return
        if match.meaning is Syntax.COMMA and not comma:
            comma = True
            verbs = sum(m.end - m.start for m in parted[number + 1 :] if m.meaning is Syntax.VERB)
            if assessability.start - match.end > verbs:
                parted[number] = match._replace(meaning=Syntax.TERMINATION)
                return
        elif match.meaning is Syntax.AND:
            joined = True
        elif match.meaning is Syntax.VERB and joined:
            # "An opacity is seen and cannot be evaluated": it is there.
            parted.append(stop_before(assessability))
            return


def _leaves_open(parted: Found, following: Found) -> bool:
    """Return whether a partial assessability trigger leaves open whether the finding is present.

    It does for a finding without attributes ("pneumothorax is not well assessed"), not for one with a side, a
    size or an article, behind "there is", or with a further statement.
    """
    meanings = [match.meaning for match in following]
    if meanings[:1] == [Syntax.TERMINATION] and meanings[1:] and meanings[1] in (Syntax.VERB, Syntax.DEGREE):
        return False
    named = None
    for match in reversed(parted):
        if match.meaning is Syntax.COMMA or match.meaning is Syntax.TERMINATION:
            return named is not None and match.end - match.start == 1
        if isinstance(match.meaning, Mention):
            named = match
        elif match.meaning in _MODIFIERS and named is not None:
            return False
    return True


def settle_question(tokens: Sequence[str], found: Found) -> Found:
    """Return the phrases without the question mark where the question presupposes the finding.

    "What is the cause of the effusion?" presupposes it; "Is the opacity an effusion?" does not.
    """
    if tokens[0] not in _QUESTION_WORDS:
        return found
    for number in range(len(found) - 2, -1, -1):
        meaning = found[number].meaning
        if isinstance(meaning, Mention):
            return found[:-1] if _is_definite(tokens, found[:number]) else found
        if isinstance(meaning, Trigger) and meaning.direction is not Direction.FORWARD:
            break
    return found


def _is_definite(tokens: Sequence[str], before: Found) -> bool:
    """Whether the noun phrase that these phrases lead to has a definite article."""
    opening = next((match for match in reversed(before) if match.meaning is not Syntax.DEGREE), None)
    return opening is not None and tokens[opening.start] in _DEFINITE
