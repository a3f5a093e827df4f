"""What "cannot be assessed" and "incompletely evaluated" are said of, and whether the finding is there.

"Pneumothorax cannot be assessed" leaves the finding open. "Small effusion, right base not evaluated" is of
the base: a stop is put before what was judged. "Right opacity is incompletely evaluated" is of an opacity
that is there: the words then claim nothing. Nor does the sign of a question that takes the finding for
granted: "Is the effusion larger?". Time grows with the number of phrases.
"""

from collections.abc import Sequence

from corpus.language.mentions import Mention
from corpus.language.phrases import Match, words
from corpus.language.statements import Meaning
from corpus.language.triggers import Claim, Cue, Joint, Side

Found = list[Match[Meaning]]

PREPOSITIONS = frozenset(
    words(
        "of in at on within to near along over under overlying above below behind between beneath through "
        "involving throughout across around after following during for by per via adjacent"
    )
)
"""Before a noun phrase: it says where, and is no new subject."""

_MAKING = frozenset(words("make makes made making render renders rendered rendering"))
"""Verbs whose object is judged: "atelectasis makes heart size difficult to assess"."""

_ASKING = frozenset(words("is are was were has have had does did what why which how when where"))
_DEFINITE = frozenset(words("the this these his her"))

_MODIFIERS = (Joint.ARTICLE, Joint.DEGREE)


def stop_before(match: Match[Meaning]) -> Match[Meaning]:
    """A stop of no words before a phrase."""
    return Match(match.start, match.start, Joint.BREAK)


def is_judgment(meaning: Meaning) -> bool:
    """Whether a phrase says of what stands before it that it was not judged."""
    return type(meaning) is Cue and meaning.claim is Claim.QUESTION and meaning.side is Side.BACKWARD


def part_judgments(tokens: Sequence[str], found: Found) -> Found:
    """Return the phrases with a stop before what else was not judged, and without idle judgments."""
    parted: Found = []
    opening = 0  # of the words behind the judgment before
    for number, match in enumerate(found):
        if isinstance(match.meaning, Cue) and is_judgment(match.meaning):
            _part_subject(tokens, parted, opening, match)
            if match.meaning.partly and not _leaves_open(parted[opening:], found[number + 1 : number + 3]):
                match = match._replace(meaning=Joint.VERB)
            opening = len(parted) + 1
        parted.append(match)
    return parted


def _part_subject(tokens: Sequence[str], parted: Found, opening: int, judgment: Match[Meaning]) -> None:
    """Put a stop between the last finding and other words that the judgment is of."""
    comma = joined = False
    for number in range(len(parted) - 1, opening - 1, -1):
        match = parted[number]
        if isinstance(match.meaning, Mention) or match.meaning is Joint.BREAK:
            end = match.end
            made = next((n for n in range(end, judgment.start) if tokens[n] in _MAKING), None)
            if made is not None:
                parted.insert(number + 1, Match(made, made, Joint.BREAK))
            return
        if match.meaning is Joint.COMMA and not comma:
            comma = True
            verbs = sum(m.end - m.start for m in parted[number + 1 :] if m.meaning is Joint.VERB)
            if judgment.start - match.end > verbs:
                parted[number] = match._replace(meaning=Joint.BREAK)
                return
        elif match.meaning is Joint.AND:
            joined = True
        elif match.meaning is Joint.VERB and joined:
            # "An opacity is seen and cannot be evaluated": it is there.
            parted.append(stop_before(judgment))
            return


def _leaves_open(parted: Found, following: Found) -> bool:
    """Whether a judgment in part leaves open whether there is a finding.

    It does of a finding that is only named ("pneumothorax is not well assessed"), not of one that has a side,
    a size or an article, that "there is", or of which more is said.
    """
    meanings = [match.meaning for match in following]
    if meanings[:1] == [Joint.BREAK] and meanings[1:] and meanings[1] in (Joint.VERB, Joint.DEGREE):
        return False
    named = None
    for match in reversed(parted):
        if match.meaning is Joint.COMMA or match.meaning is Joint.BREAK:
            return named is not None and match.end - match.start == 1
        if isinstance(match.meaning, Mention):
            named = match
        elif match.meaning in _MODIFIERS and named is not None:
            return False
    return True


def settle_question(tokens: Sequence[str], found: Found) -> Found:
    """Let the last sign of a question claim nothing where it asks of a finding that is known.

    "What is the cause of the effusion?" takes it for granted; "Is the opacity an effusion?" does not.
    """
    if tokens[0] not in _ASKING:
        return found
    for number in range(len(found) - 2, -1, -1):
        meaning = found[number].meaning
        if isinstance(meaning, Mention):
            return found[:-1] if _is_definite(tokens, found[:number]) else found
        if isinstance(meaning, Cue) and meaning.side is not Side.FORWARD:
            break
    return found


def _is_definite(tokens: Sequence[str], before: Found) -> bool:
    """Whether the noun phrase that these phrases lead to has a definite article."""
    opening = next((match for match in reversed(before) if match.meaning is not Joint.DEGREE), None)
    return opening is not None and tokens[opening.start] in _DEFINITE
