"""Which findings a report names, and what it says of each: by rules, sentence by sentence.

No model and no dictionary to license: phrases (`corpus.language.mentions`), cues (`corpus.language.triggers`)
and how far each reaches (`corpus.language.assertion`). Only what describes the film is read: findings,
impression, and texts without sections; indication, history, comparison and technique speak of something else.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status, Statuses
from corpus.language.assertion import read_sentence
from corpus.language.detection import Reader, lexicon_of
from corpus.language.forms import has_box, is_blank
from corpus.language.lexicon import ENGLISH, Lexicon
from corpus.language.sections import parse_report, split_sentences
from corpus.records import DESCRIBING, Report, Section, Study

LABELER_VERSION = "3"
"""Changes with every rule: the ledger relabels a report when this does."""

_STRENGTH = {Status.PRESENT: 3, Status.UNCERTAIN: 2, Status.ABSENT: 1}

# In a note without sections the patient's story stands beside what the film shows.
_STORY = re.compile(
    r"\b(?:year-old|years? old|yo|present(?:ed|s|ing) (?:with|to)|admitted|before admission|hospitali[sz]ed|"
    r"diagnosed|died|discharged|underwent|fever|cough|dyspn\w+|swab|pcr|"
    r"tested positive|travel\w*|comorbid\w*)\b",
    re.IGNORECASE,
)
_PICTURE = re.compile(
    r"\b(?:radiogra\w+|x-?rays?|films?|cxrs?|images?|imaging|ct|scan|tomograph\w+|view|views|shows?|showed|"
    r"demonstrat\w+|reveal\w*|seen|visible|opaci\w+|consolidat\w+|ground)\b",
    re.IGNORECASE,
)


def label_report(report: Report) -> Statuses:
    """Return the status of every finding the report speaks of, spread along the tree.

    Where findings and impression differ, the impression's status wins, and over both an addendum's, the last
    one's first; within each the strongest of present, uncertain, absent does. `no_finding` is present when
    nothing but devices is present or uncertain and something was called normal or absent. A report in a
    language that has no lexicon says nothing.
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
        told = concluded if section.name == "impression" else described
        if section.name == "addendum":
            addenda.append(told := {})
        normal |= _read(film_sentences(section, lexicon), told, reader)
    statuses = {**described, **concluded}
    for addendum in addenda:
        statuses |= addendum
    return conclude(statuses, normal=normal)


def conclude(told: Statuses, *, normal: bool = False) -> Statuses:
    """Complete what a report was found to say: add `no_finding` by its rule, and spread along the tree.

    Args:
        told: the findings that were read, each by its own word.
        normal: something was called normal without a finding being named.
    """
    statuses = dict(told)
    abnormal = any(s is not Status.ABSENT for f, s in statuses.items() if f != SUPPORT_DEVICES)
    if not abnormal and (normal or Status.ABSENT in statuses.values()):
        statuses[NO_FINDING] = Status.PRESENT
    # "Clear lungs except for a nodule": what is below a denied parent stays denied beside the exception.
    denied = VOCABULARY.spread({f: s for f, s in statuses.items() if s is Status.ABSENT})
    return VOCABULARY.spread({**denied, **statuses})


def film_sentences(section: Section, lexicon: Lexicon = ENGLISH) -> Iterator[str]:
    """The sentences of a section that describe the film: all of findings, impression and addendum.

    Of a text without sections those are left out that tell of the patient and not of a picture; everywhere
    the boxes of a form that nobody filled in.
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
    return _STORY.search(sentence) is not None and _PICTURE.search(sentence) is None


def label_text(text: str, language: str | None = None) -> Statuses:
    """Label a text as `label_report` labels the report it holds; None: in the language its words are in."""
    return label_report(parse_report("text", text, language))


def label_sentence(sentence: str, language: str | None = None) -> Statuses:
    """Label one sentence out of its report, which is in that language.

    "No effusion" alone does not say that the film is normal, so `no_finding` is kept only where the
    sentence denies nothing in particular ("no acute disease").
    """
    statuses = label_text(sentence, language)
    if Status.ABSENT in statuses.values():
        return {name: status for name, status in statuses.items() if name != NO_FINDING}
    return statuses


def labeled(study: Study, read: Statuses | None = None) -> Study:
    """Return the study with what its report says added to what its table says; the table's word wins.

    A table that knows of a present finding rules out that the report's silence makes it normal.

    Args:
        study: one without a report is returned as it is.
        read: what the report says, where something else has read it (`corpus.language.metamap`); None:
        `label_report`.
    """
    if study.report is None:
        return study
    told = dict(label_report(study.report) if read is None else read)
    tabled = {f: s for f, s in study.findings.items() if s is not Status.UNMENTIONED}
    if tabled.get(NO_FINDING) is Status.PRESENT:
        told = {f: s for f, s in told.items() if s is Status.ABSENT}
    elif any(s is not Status.ABSENT for f, s in tabled.items() if f not in (NO_FINDING, SUPPORT_DEVICES)):
        told.pop(NO_FINDING, None)
    return replace(study, findings=VOCABULARY.spread({**told, **tabled}))


def _read(sentences: Iterable[str], statuses: dict[str, Status], reader: Reader) -> bool:
    """Take the strongest status of each finding; return whether anything was called normal."""
    normal = False
    for sentence in sentences:
        assertions = read_sentence(sentence, reader.of(sentence))
        normal |= assertions.normal
        for finding, status, _ in assertions.findings:
            known = statuses.get(finding)
            if known is None or _STRENGTH[status] > _STRENGTH[known]:
                statuses[finding] = status
    return normal
