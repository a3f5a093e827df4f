"""Missing punctuation: where a run-on statement begins, and where the answers of a form end.

"No pneumothorax right pleural effusion is present" is two statements; "Pneumothorax: no Effusion: yes" is two
answers. Both are split here, by a `TERMINATION` of no words, before anything is asserted. Each step is one
pass over the phrases of the sentence, with a lookahead of a few phrases.
"""

from collections.abc import Sequence

from corpus.language.assessability import (
    PREPOSITIONS,
    is_assessability,
    settle_question,
    split_assessability,
    stop_before,
)
from corpus.language.mentions import Disease, Enlarged, Mention, Normal, Structure
from corpus.language.phrases import Match, words
from corpus.language.statements import Meaning, is_denial
from corpus.language.triggers import Assertion, Direction, Syntax, Trigger

Found = list[Match[Meaning]]

_PARTICIPLES = frozenset(
    words(
        "seen identified present evident visualized visualised visible appreciated demonstrated noted "
        "detected apparent observed found shown recognized depicted discernible discerned been being be there"
    )
)
"""Verbs that end a denied list as often as they assert something: "no consolidation effusion seen"."""

_CLAIMING = frozenset(["present", "there", "been", "being", "be"])
"""Those that, behind "is", assert even a bare finding: "no pneumothorax effusion is present"."""

_RENEWED = frozenset(
    words("increase development redemonstration demonstration progression enlargement persistence appearance")
)
"""Nouns before "of" or "in" and a present finding: "interval increase in left effusion"."""
_DRAWN = frozenset(
    words("patchy hazy streaky linear dense reticular nodular bandlike bibasilar basilar basal")
)
"""Adjectives of a finding with a location: "patchy opacity in the right base"."""
_IN_SITU = (["in", "place"], ["in", "position"], ["in", "situ"])

_SIDES = {"right": "right", "rt": "right", "r": "right", "left": "left", "lt": "left", "l": "left"}
_AHEAD = 4
"""Number of phrases behind a finding within which its verb is searched."""

_NOTHING = Trigger(Assertion.ABSENT, Direction.BACKWARD)


def split_clauses(tokens: Sequence[str], found: Found, *, english: bool = True) -> Found:
    """Return the phrases of a sentence with the terminations that its punctuation lacks.

    Args:
        tokens: the words of the sentence.
        found: its phrases with a meaning, in order.
        english: whether the sentence is English. In other languages only the answers of forms are split: the
            prepositions and verbs that reveal a run-on statement are known in English only.
    """
    if len(found) < 2:
        return found
    meanings = [match.meaning for match in found]
    ending = meanings[-2] if meanings[-1] is Syntax.TERMINATION else meanings[-1]
    if Syntax.COLON in meanings or Syntax.COMMA in meanings or is_denial(ending):
        found = _settle_answers(tokens, _answer_sides(tokens, found))
    if not english:
        return found
    triggers = [meaning for meaning in meanings if type(meaning) is Trigger]
    if Syntax.TERMINATION in meanings[:-1] and any(trigger.lists for trigger in triggers):
        found = _join_lists(tokens, found)
    if any(map(is_assessability, triggers)):
        found = split_assessability(tokens, found)
    if tokens[-1] == "?":
        found = settle_question(tokens, found)
    return _RunOn(tokens, found).part() if _may_run_on(meanings) else found


def _may_run_on(meanings: Sequence[Meaning]) -> bool:
    """Return whether a trigger's scope has a finding with another phrase behind it and nothing between."""
    scope = named = False
    for meaning in meanings:
        kind = type(meaning)
        if kind is Trigger:
            scope, named = meaning.direction is not Direction.BACKWARD, False  # type: ignore[union-attr]
        elif kind is Syntax:
            named = named and (
                meaning is Syntax.VERB or meaning is Syntax.DEGREE or meaning is Syntax.ARTICLE
            )
        elif named and kind is not Enlarged:
            return True
        elif kind is Mention or kind is Disease:
            named = scope
    return False


def _answer_sides(tokens: Sequence[str], found: Found) -> Found:
    """Split an answer for both sides into two statements: "effusions: R: small L: none"."""
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
    """Return whether the phrases are two sides with their answers, without other words."""
    sides = [_SIDES[tokens[m.start]] for m in found if tokens[m.start] in _SIDES]
    values = (
        Syntax.COLON,
        Syntax.COMMA,
        Syntax.AND,
        Syntax.TERMINATION,
        Syntax.DEGREE,
        Syntax.VERB,
    )
    plain = all(m.meaning in values or isinstance(m.meaning, Trigger | Enlarged) for m in found)
    covered = sum(m.end - m.start for m in found) == len(tokens) - start
    denied = any(isinstance(m.meaning, Trigger) and m.meaning.assertion is Assertion.ABSENT for m in found)
    return plain and covered and denied and sides[0] != sides[1]


def _settle_answers(tokens: Sequence[str], found: Found) -> Found:
    """Apply "no" behind a finding, with nothing after it, to that finding: "effusion: no"."""
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
    """Return whether a denial has nothing in its scope: an end, a termination, or the next label follows."""
    end = found[number].end
    if end == len(tokens) or tokens[end] in (",", ".", ")"):
        return True
    if (
        number + 1 < len(found)
        and found[number + 1].start == end
        and found[number + 1].meaning is Syntax.TERMINATION
    ):
        return True
    if number == 0 or found[number - 1].meaning is not Syntax.COLON:
        return False
    for match in found[number + 1 : number + 1 + _AHEAD]:
        if match.meaning is Syntax.COLON:
            return True
        if not isinstance(match.meaning, Mention | Structure) and match.meaning is not Syntax.DEGREE:
            return False
    return False


def _close_label(settled: Found) -> bool:
    """Return whether the last phrases are the label of an answer; commas of a list in it become "or"."""
    index = len(settled) - 1
    listed = index >= 0 and settled[index].meaning is Syntax.COLON
    while index >= 0 and settled[index].meaning in (
        Syntax.COLON,
        Syntax.DEGREE,
        Syntax.COMMA,
        Syntax.VERB,
    ):
        index -= 1
    if index < 0 or not isinstance(settled[index].meaning, Mention):
        return False
    while listed and index > 0:
        before = settled[index - 1].meaning
        if before is Syntax.COMMA and index > 1 and isinstance(settled[index - 2].meaning, Mention):
            settled[index - 1] = settled[index - 1]._replace(meaning=Syntax.OR)
        elif not isinstance(before, Mention) and before not in (
            Syntax.OR,
            Syntax.AND,
            Syntax.DEGREE,
        ):
            break
        index -= 1
    return True


def _join_lists(tokens: Sequence[str], found: Found) -> Found:
    """Replace a semicolon within a list by a comma: "negative for effusion; pneumothorax"."""
    joined = list(found)
    listing = False
    for number, match in enumerate(found):
        if isinstance(match.meaning, Trigger):
            listing = match.meaning.lists
        elif isinstance(match.meaning, Disease):
            listing = False  # "negative for acute disease; cardiomegaly": disease is no item of a list
        elif match.meaning is Syntax.TERMINATION:
            listing = listing and match.end > match.start and tokens[match.start] == "."
            if listing and (listing := _is_bare(found, number + 1)):
                joined[number] = match._replace(meaning=Syntax.COMMA)
    return joined


def _is_bare(found: Found, start: int) -> bool:
    """Return whether only findings stand between `start` and the next termination."""
    named = False
    for number in range(start, len(found)):
        match = found[number]
        if match.meaning is Syntax.TERMINATION:
            break
        named |= isinstance(match.meaning, Mention)
        if not isinstance(match.meaning, Mention) and match.meaning not in (
            Syntax.AND,
            Syntax.OR,
            Syntax.COMMA,
        ):
            return False
    return named


class _Phrase:
    """The current noun phrase: where it began, and whether it is the object of a preposition."""

    __slots__ = ("determined", "opening", "prepositional")

    def __init__(self) -> None:
        self.opening: int | None = None
        self.prepositional = False
        self.determined = False  # has an article, a side or a degree: no bare item of a list

    def take(self, tokens: Sequence[str], number: int, match: Match[Meaning]) -> None:
        """Add a modifier."""
        if self.opening is None:
            self.opening = number
            self.prepositional = match.start > 0 and tokens[match.start - 1] in PREPOSITIONS
        self.determined |= match.meaning in (Syntax.ARTICLE, Syntax.DEGREE)


class _RunOn:
    """One pass over a sentence that puts a termination before a new subject in a trigger's scope.

    A finding that follows another without "and", "or" or a comma begins a statement where a finite verb
    follows it, or where an article, a side or a degree precedes it and no list ends behind it. Anatomy begins
    one where it has a predicate ("no pneumothorax heart is enlarged").
    """

    def __init__(self, tokens: Sequence[str], found: Found) -> None:
        self._tokens = tokens
        self._found = found
        self._lists = _list_follows(found)
        self._parted: Found = []
        self._scope = False  # a trigger is in force
        self._named = False  # a finding in its scope has been named, and nothing joined to it since
        self._joined = False  # a list has begun in its scope
        self._phrase = _Phrase()

    def part(self) -> Found:
        """Return the phrases with their terminations."""
        for number, match in enumerate(self._found):
            meaning = match.meaning
            if isinstance(meaning, Trigger):
                self._scope = (
                    meaning.direction is not Direction.BACKWARD and meaning.assertion is not Assertion.PRESENT
                )
                self._named = self._joined = False
                self._phrase = _Phrase()
            elif isinstance(meaning, Mention | Disease):
                self._take_named(number, match)
            elif isinstance(meaning, Structure | Normal):
                self._take_anatomy(number, match)
            elif isinstance(meaning, Enlarged) or meaning in (Syntax.ARTICLE, Syntax.DEGREE):
                self._phrase.take(self._tokens, number, match)
            elif meaning is Syntax.VERB:
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
            if self._is_renewed() if self._phrase.prepositional else self._begins(number):
                self._stop_before(number)
        self._named, self._phrase = True, _Phrase()

    def _is_renewed(self) -> bool:
        """Return whether the phrase is an object: "no pneumothorax interval increase in effusion"."""
        opening = self._found[self._phrase.opening or 0].start
        if opening < 3 or self._tokens[opening - 2] not in _RENEWED:
            return False
        before = opening - (4 if self._tokens[opening - 3] == "interval" else 3)
        return self._tokens[before] not in PREPOSITIONS

    def _is_described(self, number: int) -> bool:
        """Return whether a finding has words that no item of a list has."""
        match = self._found[number]
        if self._phrase.determined or self._tokens[match.end : match.end + 2] in _IN_SITU:
            return True
        drawn = self._tokens[match.start - 1] in _DRAWN
        return drawn and self._tokens[match.end : match.end + 1] == ["in"]

    def _take_anatomy(self, number: int, match: Match[Meaning]) -> None:
        self._phrase.take(self._tokens, number, match)
        if self._scope and self._named and not self._phrase.prepositional and self._is_subject(number):
            self._stop_before(number)
        if self._phrase.prepositional:
            self._phrase = _Phrase()

    def _stop_before(self, number: int) -> None:
        """Put a termination before the noun phrase that ends with phrase `number`; its scope ends there."""
        opening = number if self._phrase.opening is None else self._phrase.opening
        self._parted.insert(len(self._parted) - (number - opening), stop_before(self._found[opening]))
        self._scope = False

    def _begins(self, number: int) -> bool:
        """Return whether a finding begins a statement: it has a verb, or words that no item of a list has.

        Anatomy, or an article, between the two is the verb's subject: "no pneumothorax heart is normal".
        """
        determined = self._is_described(number)
        prepositional = False
        for ahead in range(number + 1, min(len(self._found), number + 1 + _AHEAD)):
            match = self._found[ahead]
            meaning = match.meaning
            if meaning is Syntax.VERB:
                return determined or (not self._closes_list(ahead) and not self._joined)
            if isinstance(meaning, Trigger):
                if meaning.direction is Direction.FORWARD and meaning.assertion is Assertion.UNCERTAIN:
                    break
                return meaning.direction is not Direction.FORWARD or meaning.assertion is Assertion.PRESENT
            prepositional = prepositional or self._tokens[match.start - 1] in PREPOSITIONS
            if isinstance(meaning, Structure) and prepositional:
                prepositional = False
            elif meaning is not Syntax.DEGREE and not (meaning is Syntax.ARTICLE and prepositional):
                break
        return determined and not self._lists[number]

    def _closes_list(self, number: int) -> bool:
        """Return whether a verb ends a denied list: "no consolidation effusion seen", "… is identified"."""
        verbs = [match for match in self._found[number : number + 2] if match.meaning is Syntax.VERB]
        if self._tokens[verbs[0].start] in _PARTICIPLES:
            return True
        return len(verbs) == 2 and self._tokens[verbs[1].start] in _PARTICIPLES - _CLAIMING

    def _is_subject(self, number: int) -> bool:
        """Return whether anatomy has a predicate: "heart size is normal", "normal heart"."""
        ahead = [match.meaning for match in self._found[number + 1 : number + 1 + _AHEAD]]
        if isinstance(self._found[number].meaning, Normal):
            return bool(ahead) and isinstance(ahead[0], Structure)
        for meaning in ahead:
            if meaning is Syntax.VERB or isinstance(meaning, Normal | Enlarged):
                return True
            if not isinstance(meaning, Structure) and meaning not in (
                Syntax.AND,
                Syntax.ARTICLE,
                Syntax.DEGREE,
            ):
                return isinstance(meaning, Trigger) and meaning.direction is Direction.BACKWARD
        return False


_LISTING = (Syntax.AND, Syntax.OR, Syntax.COMMA, Syntax.COLON)


def _list_follows(found: Found) -> list[bool]:
    """Return for each phrase whether "or" follows it within its list."""
    follows = [False] * len(found)
    ahead = False
    for number in range(len(found) - 1, -1, -1):
        follows[number] = ahead
        meaning = found[number].meaning
        if meaning is Syntax.OR:
            ahead = True
        elif isinstance(meaning, Trigger) or meaning in (
            Syntax.TERMINATION,
            Syntax.SHIFT,
            Syntax.CAUSE,
        ):
            ahead = False
    return follows
