"""What one sentence claims: which findings it calls present, absent or uncertain, and whether it speaks of
normality.

A sentence is cut into statements (`corpus.language.statements`). Within a statement a cue governs the
findings it precedes or follows, along lists ("no pneumothorax or effusion"), up to the next cue or a word
that leaves the list ("with", "due to"). A statement without a finding of its own that ends in a cue ("…, but
it has resolved") speaks of the statement before it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from corpus.findings import Status
from corpus.language.clauses import part_clauses
from corpus.language.lexicon import ENGLISH, Lexicon
from corpus.language.mentions import Disease, Enlarged, Mention, Normal, Structure
from corpus.language.phrases import Match
from corpus.language.statements import Meaning, Statement, cut_statements, is_denial
from corpus.language.triggers import Claim, Cue, Joint, Side

_LONGEST_VERDICT = 2
"""Words and signs of a sentence that is nothing but a verdict: "Normal." But "normal blood count" is none."""


_LONGEST_CHOICE = 12
"""Phrases that a list behind "either" may take up."""


Assertion = tuple[str, Status, int]
"""A finding, what is said of it, and the place in its statement of the phrase that says so."""


class Assertions(NamedTuple):
    """What a sentence claims, in order. `normal`: it calls something normal or free of disease."""

    findings: list[Assertion]
    normal: bool


class Located(NamedTuple):
    """A finding that a sentence claims, and the words that name it: `start` to `end` (exclusive)."""

    finding: str
    status: Status
    start: int
    end: int


class LocatedStatement(NamedTuple):
    """A statement: its words are `start` to `end` (exclusive) of the sentence, from joint to joint.

    `names_something`: a finding or a structure, also where nothing is claimed of it.
    """

    start: int
    end: int
    names_something: bool
    findings: list[Located]


def read_sentence(sentence: str, lexicon: Lexicon = ENGLISH) -> Assertions:
    """Return what a sentence claims by the words of a lexicon, in time linear in its length."""
    tokens = lexicon.tokens(sentence)
    matches = _find(tokens, lexicon)
    if not matches:
        return Assertions([], False)
    findings: list[Assertion] = []
    normal = False
    for claims in _claim([m.meaning for m in matches])[1].values():
        normal |= claims.report(findings)
    if len(tokens) <= _LONGEST_VERDICT and any(isinstance(m.meaning, Normal) for m in matches):
        normal = True
    return Assertions(findings, normal)


def locate(tokens: Sequence[str], lexicon: Lexicon = ENGLISH) -> list[LocatedStatement]:
    """Return the statements of a sentence, given as the lexicon's tokens, with their findings in place.

    The findings and statuses are those of `read_sentence`.
    """
    matches = _find(tokens, lexicon)
    statements, claimed = _claim([m.meaning for m in matches])
    located: list[LocatedStatement] = []
    start = at = 0
    for number, statement in enumerate(statements):
        places: list[Match[Meaning]] = []
        for item in statement:
            if item is Joint.COMMA:  # put in where segments were joined: it claims nothing, its place is idle
                places.append(matches[0])
                continue
            while matches[at].meaning is not item:
                at += 1
            places.append(matches[at])
            at += 1
        # What follows was left out: the joint at which the sentence was cut.
        end = matches[at].start if number + 1 < len(statements) else len(tokens)
        findings: list[Assertion] = []
        if number in claimed:
            claimed[number].report(findings)
        located.append(
            LocatedStatement(
                start,
                end,
                number in claimed,
                [Located(f, s, places[place].start, places[place].end) for f, s, place in findings],
            )
        )
        start = end
    return located


def _find(tokens: Sequence[str], lexicon: Lexicon) -> list[Match[Meaning]]:
    """The phrases of a sentence that mean something, with the stops that were left out of it."""
    found = [m for m in lexicon.table.find(tokens) if m.meaning is not None]
    return part_clauses(tokens, found, english=lexicon.language == "en")


def _claim(meanings: Statement) -> tuple[list[Statement], dict[int, "_Claims"]]:
    """Cut a sentence into statements; return them, and what those claim that name something, by number."""
    earlier: _Claims | None = None
    read: dict[int, _Claims] = {}
    opening: set[Claim] = set()  # said before anything is named: "if any, effusion is small"
    statements = cut_statements(meanings)
    for number, statement in enumerate(statements):
        claims = _Claims(statement)
        if earlier is not None and not claims.names_something:
            for claim in claims.homeless:
                earlier.govern_last(claim)
        elif not claims.names_something:
            opening |= claims.homeless
        else:
            for claim in opening:
                claims.govern_first(claim)
            opening = set()
            read[number] = claims
            earlier = claims
    return statements, read


_UNSAID: set[Claim] = set()
"""What no cue says of a finding; never written to."""
_NAMING = (Mention, Structure, Disease, Normal)


class _Claims:
    """The findings of one statement and the cues that govern each."""

    def __init__(self, statement: Statement) -> None:
        kinds = {type(item) for item in statement}
        self._items = _name_enlargements(statement) if Enlarged in kinds else list(statement)
        self._mentions = [place for place, item in enumerate(self._items) if type(item) is Mention]
        self._claims: dict[int, set[Claim]] = {}
        self.homeless: set[Claim] = set()
        self.names_something = not kinds.isdisjoint(_NAMING)
        """Whether a finding, a structure or disease at large is named."""
        if Cue in kinds:
            self._look_forward()
            self._look_backward()
        if Joint.VERSUS in self._items or Joint.CHOICE in self._items:
            self._weigh_alternatives()

    def govern_last(self, claim: Claim) -> None:
        """Put the last finding under a cue that a later statement holds."""
        if self._mentions:
            self._govern(self._mentions[-1], claim)

    def govern_first(self, claim: Claim) -> None:
        """Put the first finding under a cue that an earlier statement holds."""
        if self._mentions:
            self._govern(self._mentions[0], claim)

    def _govern(self, place: int, claim: Claim) -> None:
        self._claims.setdefault(place, set()).add(claim)

    def _look_forward(self) -> None:
        """Let each forward cue govern what follows, to the next cue or the end of its list."""
        items = self._items
        current: Claim | None = None
        joined = False
        last_named: Meaning = None
        for place, item in enumerate(items):
            if isinstance(item, Cue):
                side = item.side
                if side is Side.EITHER:
                    forward = self._precedes_finding(place) and not self._follows_finding(place)
                    side = Side.FORWARD if forward else Side.BACKWARD
                    items[place] = item = Cue(item.claim, side)
                if side is Side.FORWARD and not _yields(current, item.claim, joined):
                    current, joined = item.claim, False
                elif side is Side.BACKWARD:
                    current = None
            elif isinstance(item, Mention | Disease | Normal | Structure):
                last_named = item
                if current is not None:
                    self._govern(place, current)
            elif item is Joint.SHIFT or (item is Joint.CAUSE and current is not Claim.UNCERTAIN):
                current = None
            elif item is Joint.AND or item is Joint.COMMA:
                joined = last_named is not None
                following = items[place + 1] if place + 1 < len(items) else None
                if item is Joint.AND and current is Claim.ABSENT and following is Joint.DEGREE:
                    current = None

    def _follows_finding(self, place: int) -> bool:
        """Whether a finding stands right before, with at most verbs and degrees between."""
        for item in reversed(self._items[max(0, place - 4) : place]):
            if isinstance(item, Mention):
                return True
            if item not in (Joint.VERB, Joint.DEGREE, Joint.COLON):
                return False
        return False

    def _precedes_finding(self, place: int) -> bool:
        """Whether a finding, or disease at large, follows closely."""
        return any(isinstance(i, Mention | Disease) for i in self._items[place + 1 : place + 6])

    def _look_backward(self) -> None:
        """Let each backward cue govern the finding before it and the list that this one ends."""
        reach = 0
        for place, item in enumerate(self._items):
            if isinstance(item, Cue) and item.side is Side.BACKWARD:
                if (
                    not self._govern_list_before(place, reach, item.claim)
                    and item.claim is not Claim.QUESTION
                ):
                    # "No longer seen is the effusion": turned about, it governs what follows.
                    following = self._nearest_mention(range(place + 1, min(len(self._items), place + 5)))
                    if following is None:
                        self.homeless.add(item.claim)
                    else:
                        self._govern(following, item.claim)
                reach = place + 1

    def _govern_list_before(self, end: int, start: int, claim: Claim) -> bool:
        """Govern the findings in `[start, end)` from the right, as long as they are one list."""
        governed = joined = structured = False
        for place in range(end - 1, start - 1, -1):
            item = self._items[place]
            if isinstance(item, Mention):
                if not governed or joined:
                    if claim is not Claim.QUESTION or not self._is_measured(place):
                        self._govern(place, claim)
                    governed = True
            elif not governed:
                structured |= isinstance(item, Structure)
                if claim is Claim.QUESTION and structured and item is Joint.COMMA:
                    break  # "left effusion, heart size cannot be assessed"
            elif item is Joint.AND or item is Joint.OR:
                joined = True
            elif is_denial(item) or (item is Joint.VERB and joined) or (item is Joint.COMMA and not joined):
                break
        return governed

    def _is_measured(self, place: int) -> bool:
        """Whether a finding is named for its size or cause: "the size of the effusion cannot be judged"."""
        before = (
            i for i in self._items[max(0, place - 3) : place][::-1] if i not in (Joint.ARTICLE, Joint.DEGREE)
        )
        return next(before, None) is Joint.ASPECT

    def _weigh_alternatives(self) -> None:
        """Findings on either side of "versus", or in a list behind "either", are uncertain."""
        for place, item in enumerate(self._items):
            if item is Joint.CHOICE:
                for choice in self._choices(place):
                    self._govern(choice, Claim.UNCERTAIN)
            if item is not Joint.VERSUS:
                continue
            before = self._nearest_mention(range(place - 1, max(-1, place - 5), -1))
            after = self._nearest_mention(range(place + 1, min(len(self._items), place + 5)))
            for side in (before, after):
                if side is not None:
                    self._govern(side, Claim.UNCERTAIN)

    def _choices(self, place: int) -> list[int]:
        """The findings listed behind "either", none where it speaks of a side ("on either side")."""
        found: list[int] = []
        offered = False
        for following in range(place + 1, min(len(self._items), place + _LONGEST_CHOICE)):
            item = self._items[following]
            if isinstance(item, Mention):
                found.append(following)
                if offered:
                    return found
            elif item is Joint.OR:
                offered = bool(found)
            elif item not in (Joint.ARTICLE, Joint.DEGREE, Joint.COMMA):
                break
        return []

    def _nearest_mention(self, places: range) -> int | None:
        """The first finding in `places` before a word that leaves the list."""
        for place in places:
            if isinstance(self._items[place], Mention):
                return place
            if self._items[place] in (Joint.SHIFT, Joint.CAUSE):
                return None
        return None

    def report(self, findings: list[Assertion]) -> bool:
        """Append what the statement claims; return whether it calls something normal."""
        normal = False
        structures: list[Structure] = []
        attributive = False
        for place, item in enumerate(self._items):
            claims = self._claims.get(place, _UNSAID)
            if isinstance(item, Mention):
                attributive = False
                status = _status(claims) if claims else Status.PRESENT
                if item.doubtful and status is Status.PRESENT:
                    status = Status.UNCERTAIN
                if status is not None:
                    findings.extend((finding, status, place) for finding in item.findings)
            elif isinstance(item, Structure):
                structures.append(item)
                if attributive:
                    normal = True
                    findings.extend((finding, Status.ABSENT, place) for finding in item.normal)
            elif isinstance(item, Normal):
                if claims - {Claim.PRESENT}:
                    structures = []
                    continue
                normal |= bool(structures)
                attributive = not structures
                for structure in structures:
                    findings.extend((finding, Status.ABSENT, place) for finding in structure.normal)
                structures = []
            elif isinstance(item, Disease):
                if Claim.ABSENT in claims and _status(claims) is Status.ABSENT:
                    normal = True
                    for absent in (item.absent, *(s.normal for s in structures)):
                        findings.extend((finding, Status.ABSENT, place) for finding in absent)
                    structures = []
            elif isinstance(item, Enlarged):
                structures = []
                attributive = False
            elif isinstance(item, Cue) or item is Joint.VERB:
                attributive = False
        return normal


def _yields(current: Claim | None, new: Claim, joined: bool) -> bool:
    """Whether a new cue says nothing against the one in force.

    "no opacity suspicious for pneumonia" stays a denial, "history of possible pneumonia" history.
    """
    if new is not Claim.UNCERTAIN:
        return current in (Claim.QUESTION, Claim.HISTORY) and new is Claim.UNEXCLUDED
    if current in (Claim.HISTORY, Claim.QUESTION, Claim.UNEXCLUDED):
        return True
    return current is Claim.ABSENT and not joined


def _status(claims: set[Claim]) -> Status | None:
    """What a finding's cues make of it together; None: it is not said of this film."""
    if Claim.HISTORY in claims or Claim.QUESTION in claims:
        return None
    if Claim.UNEXCLUDED in claims:
        return Status.UNCERTAIN
    if Claim.ABSENT in claims:
        return Status.ABSENT
    return Status.UNCERTAIN if Claim.UNCERTAIN in claims else Status.PRESENT


def _name_enlargements(statement: Statement) -> Statement:
    """Turn "enlarged" beside a structure into the finding it makes: an enlarged heart is cardiomegaly."""
    items: Statement = []
    structures: list[Structure] = []
    count = len(statement)
    for place, item in enumerate(statement):
        if isinstance(item, Structure):
            structures.append(item)
        elif isinstance(item, Normal | Mention):
            structures = []
        elif isinstance(item, Enlarged):
            following = place + 1
            while following < count and statement[following] in (Joint.ARTICLE, Joint.DEGREE):
                following += 1
            if (
                structures
                and _is_apart(statement, place)
                and statement[following : following + 1] == [Joint.AND]
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


def _is_apart(statement: Statement, place: int) -> bool:
    """Whether a comma stands before a phrase, with no more than a degree between."""
    before = place - 1
    while before >= 0 and statement[before] is Joint.DEGREE:
        before -= 1
    return before >= 0 and statement[before] is Joint.COMMA
