"""The rule-based labeler: the status of every finding of a report, and its affirmed words.

No model and no licensed dictionary: phrases (`corpus.language.mentions`), triggers
(`corpus.language.triggers`) and their scope (`corpus.language.assertion`). Only text that describes the image
is read: findings, impression, and texts without sections; indication, history, comparison and technique
describe other things.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status, Statuses
from corpus.language.assertion import locate, read_sentence
from corpus.language.detection import Reader, lexicon_of
from corpus.language.forms import has_box, is_blank
from corpus.language.lexicon import ENGLISH, Lexicon
from corpus.language.sections import parse_report, split_sentences
from corpus.records import DESCRIBING, Report, Section, Study

LABELER_VERSION = "3"
"""Changes with every rule; the ledger then labels its reports again."""

_STRENGTH = {Status.PRESENT: 3, Status.UNCERTAIN: 2, Status.ABSENT: 1}

# In a note without sections the patient's history stands beside the description of the image.
_STORY = re.compile(
    r"\b(?:year-old|years? old|yo|present(?:ed|s|ing) (?:with|to)|admitted|before admission|hospitali[sz]ed|"
    r"diagnosed|died|discharged|underwent|fever|cough|dyspn\w+|swab|pcr|"
    r"tested positive|travel\w*|comorbid\w*)\b",
    re.IGNORECASE,
)
_IMAGE = re.compile(
    r"\b(?:radiogra\w+|x-?rays?|films?|cxrs?|images?|imaging|ct|scan|tomograph\w+|view|views|shows?|showed|"
    r"demonstrat\w+|reveal\w*|seen|visible|opaci\w+|consolidat\w+|ground)\b",
    re.IGNORECASE,
)


def label_report(report: Report) -> Statuses:
    """Return the status of every finding that the report mentions, spread along the tree.

    Where findings and impression differ, the impression's status wins, and over both an addendum's, the last
    one's first; within each the strongest of present, uncertain, absent does. `no_finding` is present when
    nothing but devices is present or uncertain and something was called normal or absent. A report in a
    language without a lexicon has no statuses.
    """
    lexicon = lexicon_of(report.language)
    if lexicon is None:
        return {}
    reader = Reader(lexicon, report.described)
    described: dict[str, Status] = {}
    concluded: dict[str, Status] = {}
    addenda: list[dict[str, Status]] = []
    normal = False
    for section in report.sections:
        current = concluded if section.name == "impression" else described
        if section.name == "addendum":
            addenda.append(current := {})
        normal |= _read(descriptive_sentences(section, lexicon), current, reader)
    statuses = {**described, **concluded}
    for addendum in addenda:
        statuses |= addendum
    return conclude(statuses, normal=normal)


def conclude(read: Statuses, *, normal: bool = False) -> Statuses:
    """Complete the statuses of a report: add `no_finding` by its rule, and spread along the tree.

    Args:
        read: the findings that were read, each by its own words.
        normal: whether something was called normal without a finding being named.
    """
    statuses = dict(read)
    abnormal = any(s is not Status.ABSENT for f, s in statuses.items() if f != SUPPORT_DEVICES)
    if not abnormal and (normal or Status.ABSENT in statuses.values()):
        statuses[NO_FINDING] = Status.PRESENT
    # "Clear lungs except for a nodule": other children of a denied parent stay denied.
    denied = VOCABULARY.spread({f: s for f, s in statuses.items() if s is Status.ABSENT})
    return VOCABULARY.spread({**denied, **statuses})


def descriptive_sentences(section: Section, lexicon: Lexicon = ENGLISH) -> Iterator[str]:
    """Yield the sentences of a section that describe the image: all of findings, impression and addendum.

    Of a text without sections, sentences on the patient's history are left out; of every text, the boxes of a
    form without any tick.
    """
    if section.name not in DESCRIBING:
        return
    blank = is_blank(section.text)
    tells_story = _tells_story if lexicon.language == "en" else lexicon.tells_story
    for sentence in split_sentences(section.text, lexicon):
        if section.name == "body" and tells_story(sentence):
            continue
        if not (blank and has_box(sentence)):
            yield sentence


def _tells_story(sentence: str) -> bool:
    return _STORY.search(sentence) is not None and _IMAGE.search(sentence) is None


def label_text(text: str, language: str | None = None) -> Statuses:
    """Label a text as `label_report` labels its report; None detects the language."""
    return label_report(parse_report("text", text, language))


def label_sentence(sentence: str, language: str | None = None) -> Statuses:
    """Label one sentence apart from its report, which is in that language.

    "No effusion" alone does not make the image normal, so `no_finding` remains only where the sentence denies
    nothing in particular ("no acute disease").
    """
    statuses = label_text(sentence, language)
    if Status.ABSENT in statuses.values():
        return {name: status for name, status in statuses.items() if name != NO_FINDING}
    return statuses


def label_study(study: Study, read: Statuses | None = None) -> Study:
    """Return the study with the statuses of its report added to those of its table; the table's status wins.

    A present finding in the table excludes `no_finding` from the report.

    Args:
        study: one without a report is returned unchanged.
        read: the statuses of the report from another labeler (`corpus.language.metamap`); None applies
            `label_report`.
    """
    if study.report is None:
        return study
    from_report = dict(label_report(study.report) if read is None else read)
    tabled = {f: s for f, s in study.findings.items() if s is not Status.UNMENTIONED}
    if tabled.get(NO_FINDING) is Status.PRESENT:
        from_report = {f: s for f, s in from_report.items() if s is Status.ABSENT}
    elif any(s is not Status.ABSENT for f, s in tabled.items() if f not in (NO_FINDING, SUPPORT_DEVICES)):
        from_report.pop(NO_FINDING, None)
    return replace(study, findings=VOCABULARY.spread({**from_report, **tabled}))


def _read(sentences: Iterable[str], statuses: dict[str, Status], reader: Reader) -> bool:
    """Add the strongest status of each finding; return whether anything was called normal."""
    normal = False
    for sentence in sentences:
        assertions = read_sentence(sentence, reader.of(sentence))
        normal |= assertions.normal
        for finding, status, _ in assertions.findings:
            known = statuses.get(finding)
            if known is None or _STRENGTH[status] > _STRENGTH[known]:
                statuses[finding] = status
    return normal


def affirmed_text(report: Report) -> str:
    """Return the affirmed words of a report's description: lower case, in order, one blank between.

    Ranking by words finds "no effusion" first for "effusion", because the short sentence has few other words.
    So only affirmed words are returned: a statement that denies all its findings is left out, and in a
    statement that affirms one finding and denies another ("consolidation without effusion") the denied one's
    words are. Sentences without a finding stay.

    Empty where everything is denied, and where the report's language has no lexicon. Time is linear in the
    length of the report.
    """
    lexicon = lexicon_of(report.language)
    if lexicon is None:
        return ""
    reader = Reader(lexicon, report.described)
    return " ".join(
        word
        for section in report.sections
        for sentence in descriptive_sentences(section, lexicon)
        for word in affirmed_words(sentence, reader.of(sentence))
    )


def affirmed_words(sentence: str, lexicon: Lexicon = ENGLISH) -> Iterator[str]:
    """Yield the affirmed words of one sentence, without its signs.

    Function words of languages other than English are left out: what counts words drops the English ones
    itself.
    """
    words = _affirmed_words(sentence, lexicon)
    yield from words if lexicon.language == "en" else (word for word in words if word not in lexicon.common)


def _affirmed_words(sentence: str, lexicon: Lexicon) -> Iterator[str]:
    tokens = lexicon.tokens(sentence)
    statements = locate(tokens, lexicon)
    if not statements:  # no word of a finding, a structure or a claim in it
        yield from (token for token in tokens if token[0].isalnum())
    for statement in statements:
        denied = [claim for claim in statement.findings if claim.status is Status.ABSENT]
        if denied and len(denied) == len(statement.findings):
            continue
        hidden: set[int] = set()
        for claim in denied:
            start = claim.start
            while start > statement.start and tokens[start - 1] in lexicon.denying:
                start -= 1
            hidden.update(range(start, claim.end))
        for position in range(statement.start, statement.end):
            if position not in hidden and tokens[position][0].isalnum():
                yield tokens[position]
