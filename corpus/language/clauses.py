"""Stops that a sentence leaves out: where a run-on statement begins, and where the answers of a form end.

"No pneumothorax right pleural effusion is present" is two statements; "Pneumothorax: no Effusion: yes" is two
answers. Both are parted here, by a `BREAK` of no words, before anything is claimed. Each step is one walk
over the phrases of the sentence, and none looks further ahead than a few phrases.
"""

from collections.abc import Sequence

from corpus.language.assessability import (
    PREPOSITIONS,
    is_judgment,
    part_judgments,
    settle_question,
    stop_before,
)
from corpus.language.mentions import Disease, Enlarged, Mention, Normal, Structure
from corpus.language.phrases import Match, words
from corpus.language.statements import Meaning, is_denial
from corpus.language.triggers import Claim, Cue, Joint, Side

Found = list[Match[Meaning]]

_PARTICIPLES = frozenset(
    words(
        "seen identified present evident visualized visualised visible appreciated demonstrated noted "
        "detected apparent observed found shown recognized depicted discernible discerned been being be there"
    )
)
"""Verbs that close a denied list as often as they claim something: "no consolidation effusion seen"."""

_CLAIMING = frozenset(["present", "there", "been", "being", "be"])
"""Of these, behind "is", what claims even of a bare finding: "no pneumothorax effusion is present"."""

_RENEWED = frozenset(
    words("increase development redemonstration demonstration progression enlargement persistence appearance")
)
"""Nouns whose "of" or "in" leads to a finding that is there: "interval increase in left effusion"."""
_DRAWN = frozenset(
    words("patchy hazy streaky linear dense reticular nodular bandlike bibasilar basilar basal")
)
"""Adjectives of a finding that is described where it lies: "patchy opacity in the right base"."""
_IN_PLACE = (["in", "place"], ["in", "position"], ["in", "situ"])

_SIDES = {"right": "right", "rt": "right", "r": "right", "left": "left", "lt": "left", "l": "left"}
_AHEAD = 4
"""How many phrases behind a finding its verb is looked for."""

_NOTHING = Cue(Claim.ABSENT, Side.BACKWARD)


def part_clauses(tokens: Sequence[str], found: Found, *, english: bool = True) -> Found:
    """Return the phrases of a sentence with the stops that it leaves out.

    Args:
        tokens: the words of the sentence.
        found: its phrases that mean something, in order.
        english: the sentence is in English. In other languages the answers of forms alone are parted: the
            prepositions and verbs that tell a run-on statement are known in English only.
    """
    if len(found) < 2:
        return found
    meanings = [match.meaning for match in found]
    ending = meanings[-2] if meanings[-1] is Joint.BREAK else meanings[-1]
    if Joint.COLON in meanings or Joint.COMMA in meanings or is_denial(ending):
        found = _settle_answers(tokens, _answer_sides(tokens, found))
    if not english:
        return found
    cues = [meaning for meaning in meanings if type(meaning) is Cue]
    if Joint.BREAK in meanings[:-1] and any(cue.lists for cue in cues):
        found = _join_lists(tokens, found)
    if any(map(is_judgment, cues)):
        found = part_judgments(tokens, found)
    if tokens[-1] == "?":
        found = settle_question(tokens, found)
    return _RunOn(tokens, found).part() if _may_run_on(meanings) else found


def _may_run_on(meanings: Sequence[Meaning]) -> bool:
    """Whether something is named in the scope of a cue behind a finding that nothing joins it to."""
    scope = named = False
    for meaning in meanings:
        kind = type(meaning)
        if kind is Cue:
            scope, named = meaning.side is not Side.BACKWARD, False  # type: ignore[union-attr]
        elif kind is Joint:
            named = named and (meaning is Joint.VERB or meaning is Joint.DEGREE or meaning is Joint.ARTICLE)
        elif named and kind is not Enlarged:
            return True
        elif kind is Mention or kind is Disease:
            named = scope
    return False


def _answer_sides(tokens: Sequence[str], found: Found) -> Found:
    """Make a statement of each side: "effusions: R: small L: none" names its finding twice."""
    for number, match in enumerate(found):
        if not isinstance(match.meaning, Mention):
            continue
        entries = [n for n in range(number + 1, len(found)) if tokens[found[n].start] in _SIDES]
        if len(entries) == 2 and _are_answers(tokens, found[number + 1 :], match.end):
            label = match.meaning
            second = found[entries[1]]
            rest = found[entries[1] + 1 :]
            return [*found[: entries[1]], stop_before(second), second._replace(meaning=label), *rest]
        return found
    return found


def _are_answers(tokens: Sequence[str], found: Found, start: int) -> bool:
    """Whether phrases are two sides and what is there or not, from the finding on, with no word besides."""
    sides = [_SIDES[tokens[m.start]] for m in found if tokens[m.start] in _SIDES]
    values = (Joint.COLON, Joint.COMMA, Joint.AND, Joint.BREAK, Joint.DEGREE, Joint.VERB)
    plain = all(m.meaning in values or isinstance(m.meaning, Cue | Enlarged) for m in found)
    covered = sum(m.end - m.start for m in found) == len(tokens) - start
    denied = any(isinstance(m.meaning, Cue) and m.meaning.claim is Claim.ABSENT for m in found)
    return plain and covered and denied and sides[0] != sides[1]


def _settle_answers(tokens: Sequence[str], found: Found) -> Found:
    """Let "no" behind a finding speak of it where nothing follows: "effusion: no", "pneumothorax no, …"."""
    settled: Found = []
    for number, match in enumerate(found):
        alone = match.end - match.start == 1 and is_denial(match.meaning)
        if alone and _ends_answer(tokens, found, number) and _close_label(settled):
            settled.append(match._replace(meaning=_NOTHING))
            if number + 1 < len(found):
                settled.append(stop_before(found[number + 1]))
        else:
            settled.append(match)
    return settled


def _ends_answer(tokens: Sequence[str], found: Found, number: int) -> bool:
    """Whether nothing that a denial could be said of follows: an end, a stop, or the next label."""
    end = found[number].end
    if end == len(tokens) or tokens[end] in (",", ".", ")"):
        return True
    if (
        number + 1 < len(found)
        and found[number + 1].start == end
        and found[number + 1].meaning is Joint.BREAK
    ):
        return True
    if number == 0 or found[number - 1].meaning is not Joint.COLON:
        return False
    for match in found[number + 1 : number + 1 + _AHEAD]:
        if match.meaning is Joint.COLON:
            return True
        if not isinstance(match.meaning, Mention | Structure) and match.meaning is not Joint.DEGREE:
            return False
    return False


def _close_label(settled: Found) -> bool:
    """Whether the last phrases are the label of an answer; the commas of a list in it become "or"."""
    place = len(settled) - 1
    listed = place >= 0 and settled[place].meaning is Joint.COLON
    while place >= 0 and settled[place].meaning in (Joint.COLON, Joint.DEGREE, Joint.COMMA, Joint.VERB):
        place -= 1
    if place < 0 or not isinstance(settled[place].meaning, Mention):
        return False
    while listed and place > 0:
        before = settled[place - 1].meaning
        if before is Joint.COMMA and place > 1 and isinstance(settled[place - 2].meaning, Mention):
            settled[place - 1] = settled[place - 1]._replace(meaning=Joint.OR)
        elif not isinstance(before, Mention) and before not in (Joint.OR, Joint.AND, Joint.DEGREE):
            break
        place -= 1
    return True


def _join_lists(tokens: Sequence[str], found: Found) -> Found:
    """Make a comma of a semicolon within a list: "negative for effusion; pneumothorax"."""
    joined = list(found)
    listing = False
    for number, match in enumerate(found):
        if isinstance(match.meaning, Cue):
            listing = match.meaning.lists
        elif isinstance(match.meaning, Disease):
            listing = (
                False  # "negative for acute disease; cardiomegaly": disease at large is no item of a list
            )
        elif match.meaning is Joint.BREAK:
            listing = listing and match.end > match.start and tokens[match.start] == "."
            if listing and (listing := _is_bare(found, number + 1)):
                joined[number] = match._replace(meaning=Joint.COMMA)
    return joined


def _is_bare(found: Found, start: int) -> bool:
    """Whether nothing but findings stands between `start` and the next stop."""
    named = False
    for number in range(start, len(found)):
        match = found[number]
        if match.meaning is Joint.BREAK:
            break
        named |= isinstance(match.meaning, Mention)
        if not isinstance(match.meaning, Mention) and match.meaning not in (Joint.AND, Joint.OR, Joint.COMMA):
            return False
    return named


class _Phrase:
    """The noun phrase that is being read: where it began, and whether it is the object of a preposition."""

    __slots__ = ("determined", "opening", "placed")

    def __init__(self) -> None:
        self.opening: int | None = None
        self.placed = False
        self.determined = False  # has an article, a side or a degree: no bare item of a list

    def take(self, tokens: Sequence[str], number: int, match: Match[Meaning]) -> None:
        """Take in a modifier."""
        if self.opening is None:
            self.opening = number
            self.placed = match.start > 0 and tokens[match.start - 1] in PREPOSITIONS
        self.determined |= match.meaning in (Joint.ARTICLE, Joint.DEGREE)


class _RunOn:
    """One walk over the phrases of a sentence that puts a stop before another subject in a cue's scope.

    A finding that follows another without "and", "or" or a comma begins a statement where a finite verb
    follows it, or where an article, a side or a degree opens it and no list ends behind it. Anatomy begins
    one where something is said of it ("no pneumothorax heart is enlarged").
    """

    def __init__(self, tokens: Sequence[str], found: Found) -> None:
        self._tokens = tokens
        self._found = found
        self._lists = _list_follows(found)
        self._parted: Found = []
        self._scope = False  # a cue is in force
        self._named = False  # a finding in its scope has been named, and nothing joined to it since
        self._joined = False  # a list has begun in its scope
        self._phrase = _Phrase()

    def part(self) -> Found:
        """Return the phrases with their stops."""
        for number, match in enumerate(self._found):
            meaning = match.meaning
            if isinstance(meaning, Cue):
                self._scope = meaning.side is not Side.BACKWARD and meaning.claim is not Claim.PRESENT
                self._named = self._joined = False
                self._phrase = _Phrase()
            elif isinstance(meaning, Mention | Disease):
                self._take_named(number, match)
            elif isinstance(meaning, Structure | Normal):
                self._take_anatomy(number, match)
            elif isinstance(meaning, Enlarged) or meaning in (Joint.ARTICLE, Joint.DEGREE):
                self._phrase.take(self._tokens, number, match)
            elif meaning is Joint.VERB:
                self._phrase = _Phrase()
            else:
                self._scope = self._scope and meaning in _LISTING
                self._named, self._joined = False, True
                self._phrase = _Phrase()
            self._parted.append(match)
        return self._parted

    def _take_named(self, number: int, match: Match[Meaning]) -> None:
        if self._scope and self._named and isinstance(match.meaning, Mention):
            self._phrase.take(self._tokens, number, match)
            if self._is_renewed() if self._phrase.placed else self._begins(number):
                self._stop_before(number)
        self._named, self._phrase = True, _Phrase()

    def _is_renewed(self) -> bool:
        """Whether the phrase is the object of a new statement: "no pneumothorax interval increase in …"."""
        opening = self._found[self._phrase.opening or 0].start
        if opening < 3 or self._tokens[opening - 2] not in _RENEWED:
            return False
        before = opening - (4 if self._tokens[opening - 3] == "interval" else 3)
        return self._tokens[before] not in PREPOSITIONS

    def _is_described(self, number: int) -> bool:
        """Whether a finding has words that no item of a list has."""
        match = self._found[number]
        if self._phrase.determined or self._tokens[match.end : match.end + 2] in _IN_PLACE:
            return True
        drawn = self._tokens[match.start - 1] in _DRAWN
        return drawn and self._tokens[match.end : match.end + 1] == ["in"]

    def _take_anatomy(self, number: int, match: Match[Meaning]) -> None:
        self._phrase.take(self._tokens, number, match)
        if self._scope and self._named and not self._phrase.placed and self._is_subject(number):
            self._stop_before(number)
        if self._phrase.placed:
            self._phrase = _Phrase()

    def _stop_before(self, number: int) -> None:
        """Put a stop before the noun phrase that the phrase `number` ends; nothing is in scope behind it."""
        opening = number if self._phrase.opening is None else self._phrase.opening
        self._parted.insert(len(self._parted) - (number - opening), stop_before(self._found[opening]))
        self._scope = False

    def _begins(self, number: int) -> bool:
        """Whether a finding begins a statement: it has a verb, or words that no item of a list has.

        Anatomy, or an article, between the two is the verb's subject: "no pneumothorax heart is normal".
        """
        determined = self._is_described(number)
        placed = False
        for ahead in range(number + 1, min(len(self._found), number + 1 + _AHEAD)):
            match = self._found[ahead]
            meaning = match.meaning
            if meaning is Joint.VERB:
                return determined or (not self._closes_list(ahead) and not self._joined)
            if isinstance(meaning, Cue):
                if meaning.side is Side.FORWARD and meaning.claim is Claim.UNCERTAIN:
                    break
                return meaning.side is not Side.FORWARD or meaning.claim is Claim.PRESENT
            placed = placed or self._tokens[match.start - 1] in PREPOSITIONS
            if isinstance(meaning, Structure) and placed:
                placed = False
            elif meaning is not Joint.DEGREE and not (meaning is Joint.ARTICLE and placed):
                break
        return determined and not self._lists[number]

    def _closes_list(self, number: int) -> bool:
        """Whether a verb closes a denied list: "no consolidation effusion seen", "… is identified"."""
        verbs = [match for match in self._found[number : number + 2] if match.meaning is Joint.VERB]
        if self._tokens[verbs[0].start] in _PARTICIPLES:
            return True
        return len(verbs) == 2 and self._tokens[verbs[1].start] in _PARTICIPLES - _CLAIMING

    def _is_subject(self, number: int) -> bool:
        """Whether something is said of anatomy: "heart size is normal", "normal heart"."""
        ahead = [match.meaning for match in self._found[number + 1 : number + 1 + _AHEAD]]
        if isinstance(self._found[number].meaning, Normal):
            return bool(ahead) and isinstance(ahead[0], Structure)
        for meaning in ahead:
            if meaning is Joint.VERB or isinstance(meaning, Normal | Enlarged):
                return True
            if not isinstance(meaning, Structure) and meaning not in (Joint.AND, Joint.ARTICLE, Joint.DEGREE):
                return isinstance(meaning, Cue) and meaning.side is Side.BACKWARD
        return False


_LISTING = (Joint.AND, Joint.OR, Joint.COMMA, Joint.COLON)


def _list_follows(found: Found) -> list[bool]:
    """For each phrase, whether "or" follows it within its list."""
    follows = [False] * len(found)
    ahead = False
    for number in range(len(found) - 1, -1, -1):
        follows[number] = ahead
        meaning = found[number].meaning
        if meaning is Joint.OR:
            ahead = True
        elif isinstance(meaning, Cue) or meaning in (Joint.BREAK, Joint.SHIFT, Joint.CAUSE):
            ahead = False
    return follows
