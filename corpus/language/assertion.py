"""Assertions of a sentence: its findings, each present, absent or uncertain, and its statements of normality.

A sentence is split into statements (`corpus.language.statements`). Within a statement a trigger has in its
scope the findings that it precedes or follows, along lists ("no pneumothorax or effusion"), up to the next
trigger or a word that leaves the list ("with", "due to"). A statement without a finding that ends in a
trigger ("…, but it has resolved") applies to the statement before it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from corpus.findings import Status
from corpus.language.clauses import split_clauses
from corpus.language.lexicon import ENGLISH, Lexicon
from corpus.language.mentions import Disease, Enlarged, Mention, Normal, Structure
from corpus.language.phrases import Match
from corpus.language.statements import Meaning, Statement, is_denial, name_enlargements, split_statements
from corpus.language.triggers import Assertion, Direction, Syntax, Trigger

_MAX_VERDICT = 2
"""Words and signs of a sentence that is only a verdict: "Normal." But "normal blood count" is none."""


_MAX_CHOICE = 12
"""Number of phrases in a list behind "either"."""


FindingAssertion = tuple[str, Status, int]
"""A finding, its status, and the index of its phrase in the statement."""


class SentenceAssertions(NamedTuple):
    """The assertions of a sentence, in order.

    `findings`: with status and index.
    `normal`: it calls something normal or free of disease.
    """

    findings: list[FindingAssertion]
    normal: bool


class LocatedFinding(NamedTuple):
    """A finding of a sentence, and the words that name it: `start` to `end` (exclusive)."""

    finding: str
    status: Status
    start: int
    end: int


class LocatedStatement(NamedTuple):
    """A statement: the words `start` to `end` (exclusive) of the sentence, between terminations.

    `names_something`: a finding or a structure, also without an assertion.
    """

    start: int
    end: int
    names_something: bool
    findings: list[LocatedFinding]


def read_sentence(sentence: str, lexicon: Lexicon = ENGLISH) -> SentenceAssertions:
    """Return the assertions of a sentence by the words of a lexicon, in time linear in its length."""
    tokens = lexicon.tokens(sentence)
    matches = _find(tokens, lexicon)
    if not matches:
        return SentenceAssertions([], False)
    findings: list[FindingAssertion] = []
    normal = False
    for asserted in _read_statements([m.meaning for m in matches])[1].values():
        normal |= asserted.report(findings)
    if len(tokens) <= _MAX_VERDICT and any(isinstance(m.meaning, Normal) for m in matches):
        normal = True
    return SentenceAssertions(findings, normal)


def locate(tokens: Sequence[str], lexicon: Lexicon = ENGLISH) -> list[LocatedStatement]:
    """Return the statements of a sentence with the words that name their findings.

    The findings and statuses are those of `read_sentence`.

    Args:
        tokens: the sentence as the lexicon's tokens.
        lexicon: of its language.
    """
    matches = _find(tokens, lexicon)
    statements, asserted = _read_statements([m.meaning for m in matches])
    located: list[LocatedStatement] = []
    start = at = 0
    for number, statement in enumerate(statements):
        matched: list[Match[Meaning]] = []
        for item in statement:
            if item is Syntax.COMMA:  # inserted where segments were joined: its position is not used
                matched.append(matches[0])
                continue
            while matches[at].meaning is not item:
                at += 1
            matched.append(matches[at])
            at += 1
        # What follows was left out: the termination at which the sentence was split.
        end = matches[at].start if number + 1 < len(statements) else len(tokens)
        findings: list[FindingAssertion] = []
        if number in asserted:
            asserted[number].report(findings)
        located.append(
            LocatedStatement(
                start,
                end,
                number in asserted,
                [LocatedFinding(f, s, matched[index].start, matched[index].end) for f, s, index in findings],
            )
        )
        start = end
    return located


def _find(tokens: Sequence[str], lexicon: Lexicon) -> list[Match[Meaning]]:
    """Return the phrases of a sentence with a meaning, and the terminations that its punctuation lacks."""
    found = [m for m in lexicon.table.find(tokens) if m.meaning is not None]
    return split_clauses(tokens, found, english=lexicon.language == "en")


def _read_statements(meanings: Statement) -> tuple[list[Statement], dict[int, "_StatementAssertions"]]:
    """Split a sentence; return its statements, and the assertions of those that name something."""
    earlier: _StatementAssertions | None = None
    read: dict[int, _StatementAssertions] = {}
    leading: set[Assertion] = set()  # before anything is named: "if any, effusion is small"
    statements = split_statements(meanings)
    for number, statement in enumerate(statements):
        asserted = _StatementAssertions(statement)
        if earlier is not None and not asserted.names_something:
            for assertion in asserted.unattached:
                earlier.apply_to_last(assertion)
        elif not asserted.names_something:
            leading |= asserted.unattached
        else:
            for assertion in leading:
                asserted.apply_to_first(assertion)
            leading = set()
            read[number] = asserted
            earlier = asserted
    return statements, read


_NO_ASSERTIONS: set[Assertion] = set()
"""The assertions of a finding without a trigger; never written to."""
_NAMING = (Mention, Structure, Disease, Normal)


class _StatementAssertions:
    """The findings of one statement and the assertions of the triggers that have each in their scope."""

    def __init__(self, statement: Statement) -> None:
        kinds = {type(item) for item in statement}
        self._items = name_enlargements(statement) if Enlarged in kinds else list(statement)
        self._mentions = [index for index, item in enumerate(self._items) if type(item) is Mention]
        self._assertions: dict[int, set[Assertion]] = {}
        self.unattached: set[Assertion] = set()
        self.names_something = not kinds.isdisjoint(_NAMING)
        """Whether a finding, a structure or disease at large is named."""
        if Trigger in kinds:
            self._look_forward()
            self._look_backward()
        if Syntax.VERSUS in self._items or Syntax.CHOICE in self._items:
            self._weigh_alternatives()

    def apply_to_last(self, assertion: Assertion) -> None:
        """Apply a trigger of a later statement to the last finding."""
        if self._mentions:
            self._apply(self._mentions[-1], assertion)

    def apply_to_first(self, assertion: Assertion) -> None:
        """Apply a trigger of an earlier statement to the first finding."""
        if self._mentions:
            self._apply(self._mentions[0], assertion)

    def _apply(self, index: int, assertion: Assertion) -> None:
        self._assertions.setdefault(index, set()).add(assertion)

    def _look_forward(self) -> None:
        """Apply each forward trigger to what follows, to the next trigger or the end of its list."""
        items = self._items
        current: Assertion | None = None
        joined = False
        last_named: Meaning = None
        for index, item in enumerate(items):
            if isinstance(item, Trigger):
                direction = item.direction
                if direction is Direction.EITHER:
                    forward = self._precedes_finding(index) and not self._follows_finding(index)
                    direction = Direction.FORWARD if forward else Direction.BACKWARD
                    items[index] = item = Trigger(item.assertion, direction)
                if direction is Direction.FORWARD and not _yields(current, item.assertion, joined):
                    current, joined = item.assertion, False
                elif direction is Direction.BACKWARD:
                    current = None
            elif isinstance(item, Mention | Disease | Normal | Structure):
                last_named = item
                if current is not None:
                    self._apply(index, current)
            elif item is Syntax.SHIFT or (item is Syntax.CAUSE and current is not Assertion.UNCERTAIN):
                current = None
            elif item is Syntax.AND or item is Syntax.COMMA:
                joined = last_named is not None
                following = items[index + 1] if index + 1 < len(items) else None
                if item is Syntax.AND and current is Assertion.ABSENT and following is Syntax.DEGREE:
                    current = None

    def _follows_finding(self, index: int) -> bool:
        """Return whether a finding stands right before, with at most verbs and degrees between."""
        for item in reversed(self._items[max(0, index - 4) : index]):
            if isinstance(item, Mention):
                return True
            if item not in (Syntax.VERB, Syntax.DEGREE, Syntax.COLON):
                return False
        return False

    def _precedes_finding(self, index: int) -> bool:
        """Return whether a finding, or disease in general, follows closely."""
        return any(isinstance(i, Mention | Disease) for i in self._items[index + 1 : index + 6])

    def _look_backward(self) -> None:
        """Apply each backward trigger to the finding before it and the list that this one ends."""
        reach = 0
        for index, item in enumerate(self._items):
            if isinstance(item, Trigger) and item.direction is Direction.BACKWARD:
                if (
                    not self._apply_to_list_before(index, reach, item.assertion)
                    and item.assertion is not Assertion.QUESTION
                ):
                    # "No longer seen is the effusion": inverted, it applies to what follows.
                    following = self._nearest_mention(range(index + 1, min(len(self._items), index + 5)))
                    if following is None:
                        self.unattached.add(item.assertion)
                    else:
                        self._apply(following, item.assertion)
                reach = index + 1

    def _apply_to_list_before(self, end: int, start: int, assertion: Assertion) -> bool:
        """Apply an assertion to the list of findings that ends `[start, end)`, from the right."""
        applied = joined = structured = False
        for index in range(end - 1, start - 1, -1):
            item = self._items[index]
            if isinstance(item, Mention):
                if not applied or joined:
                    if assertion is not Assertion.QUESTION or not self._is_measured(index):
                        self._apply(index, assertion)
                    applied = True
            elif not applied:
                structured |= isinstance(item, Structure)
                if assertion is Assertion.QUESTION and structured and item is Syntax.COMMA:
                    break  # "left effusion, heart size cannot be assessed"
            elif item is Syntax.AND or item is Syntax.OR:
                joined = True
            elif is_denial(item) or (item is Syntax.VERB and joined) or (item is Syntax.COMMA and not joined):
                break
        return applied

    def _is_measured(self, index: int) -> bool:
        """Return whether a size or cause is meant: "the size of the effusion cannot be judged"."""
        before = (
            i
            for i in self._items[max(0, index - 3) : index][::-1]
            if i not in (Syntax.ARTICLE, Syntax.DEGREE)
        )
        return next(before, None) is Syntax.ASPECT

    def _weigh_alternatives(self) -> None:
        """Make the findings on either side of "versus", or in a list behind "either", uncertain."""
        for index, item in enumerate(self._items):
            if item is Syntax.CHOICE:
                for choice in self._choices(index):
                    self._apply(choice, Assertion.UNCERTAIN)
            if item is not Syntax.VERSUS:
                continue
            before = self._nearest_mention(range(index - 1, max(-1, index - 5), -1))
            after = self._nearest_mention(range(index + 1, min(len(self._items), index + 5)))
            for side in (before, after):
                if side is not None:
                    self._apply(side, Assertion.UNCERTAIN)

    def _choices(self, index: int) -> list[int]:
        """Return the findings listed behind "either", none where it means a side ("on either side")."""
        found: list[int] = []
        offered = False
        for following in range(index + 1, min(len(self._items), index + _MAX_CHOICE)):
            item = self._items[following]
            if isinstance(item, Mention):
                found.append(following)
                if offered:
                    return found
            elif item is Syntax.OR:
                offered = bool(found)
            elif item not in (Syntax.ARTICLE, Syntax.DEGREE, Syntax.COMMA):
                break
        return []

    def _nearest_mention(self, indices: range) -> int | None:
        """Return the first finding in `indices` before a word that leaves the list."""
        for index in indices:
            if isinstance(self._items[index], Mention):
                return index
            if self._items[index] in (Syntax.SHIFT, Syntax.CAUSE):
                return None
        return None

    def report(self, findings: list[FindingAssertion]) -> bool:
        """Append the findings of the statement; return whether it calls something normal."""
        normal = False
        structures: list[Structure] = []
        attributive = False
        for index, item in enumerate(self._items):
            asserted = self._assertions.get(index, _NO_ASSERTIONS)
            if isinstance(item, Mention):
                attributive = False
                status = _status(asserted) if asserted else Status.PRESENT
                if item.doubtful and status is Status.PRESENT:
                    status = Status.UNCERTAIN
                if status is not None:
                    findings.extend((finding, status, index) for finding in item.findings)
            elif isinstance(item, Structure):
                structures.append(item)
                if attributive:
                    normal = True
                    findings.extend((finding, Status.ABSENT, index) for finding in item.normal)
            elif isinstance(item, Normal):
                if asserted - {Assertion.PRESENT}:
                    structures = []
                    continue
                normal |= bool(structures)
                attributive = not structures
                for structure in structures:
                    findings.extend((finding, Status.ABSENT, index) for finding in structure.normal)
                structures = []
            elif isinstance(item, Disease):
                if Assertion.ABSENT in asserted and _status(asserted) is Status.ABSENT:
                    normal = True
                    for absent in (item.absent, *(s.normal for s in structures)):
                        findings.extend((finding, Status.ABSENT, index) for finding in absent)
                    structures = []
            elif isinstance(item, Enlarged):
                structures = []
                attributive = False
            elif isinstance(item, Trigger) or item is Syntax.VERB:
                attributive = False
        return normal


def _yields(current: Assertion | None, new: Assertion, joined: bool) -> bool:
    """Return whether a new trigger leaves the current assertion in force.

    "no opacity suspicious for pneumonia" stays a denial, "history of possible pneumonia" history.
    """
    if new is not Assertion.UNCERTAIN:
        return current in (Assertion.QUESTION, Assertion.HISTORY) and new is Assertion.UNEXCLUDED
    if current in (Assertion.HISTORY, Assertion.QUESTION, Assertion.UNEXCLUDED):
        return True
    return current is Assertion.ABSENT and not joined


def _status(asserted: set[Assertion]) -> Status | None:
    """Return the status of a finding by its assertions; None where it is not asserted of this image."""
    if Assertion.HISTORY in asserted or Assertion.QUESTION in asserted:
        return None
    if Assertion.UNEXCLUDED in asserted:
        return Status.UNCERTAIN
    if Assertion.ABSENT in asserted:
        return Status.ABSENT
    return Status.UNCERTAIN if Assertion.UNCERTAIN in asserted else Status.PRESENT
