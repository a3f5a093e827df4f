"""Where a text names somebody: behind a title, a label or a verb of reporting, or before a degree.

A name is made of words that begin with a capital, in any script that has them, and of whole words in scripts
that have none; of initials ("J.", "A.-M."), and of particles before them ("van den", "de la", "al-"). Words
that no name holds end it. In lower case a name is known behind `dr.`, `prof.`, `mr.` and `mrs.` only, as one
word that no report uses. Every pattern is bounded, so that time grows with the length of the text.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import chain

from corpus import cues, mentions
from corpus.phrases import spell_out, words


def _class(*categories: str) -> str:
    """The characters of some Unicode categories (`Lu`; `L` for all letters), as the inside of a class."""
    ranges: list[list[int]] = []
    for code in range(0x80, 0x10000):
        if unicodedata.category(chr(code)).startswith(categories):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in ranges)


_UPPER = "A-Z" + _class("Lu", "Lt")
_LETTER = "A-Za-z" + _class("L", "M")
_CASELESS = _class("Lo")
_HAN = r"\u4e00-\u9fff\u3005"
_START = rf"(?<![{_LETTER}\d])"
# A name goes on behind a line end in a wrapped line only, or where a particle opens the next one.
_GAP = (
    r"(?:[^\S\n]{1,3}|(?<=[^\n]{50})\n[^\S\n]?|\n[^\S\n]?(?=(?:von|van|de|der|den|da|di|bin|ten|ter|zu)\s))"
)

_PARTICLE = (
    r"(?:(?i:von|van|vom|zum|zur|zu|und|de|del|della|delle|dello|di|da|dal|dos|das|do|du|des|la|las|le|les|lo|los|"
    r"der|den|dem|ten|ter|te|el|al|bin|bint|ben|ibn|abu|af|av|san|santa|saint|sainte|st|ste|op|ap|mac|mc)\b\.?"
    r"|['’][tsn]\b)"
)
_INITIALS = rf"(?>[{_UPPER}]\.(?:[ ]?-?[{_UPPER}]\.){{0,3}})"
_PREFIX = rf"(?:{_INITIALS}\s{{0,2}}|{_PARTICLE}\s{{1,3}}|(?i:[dlo]['’])[ ]?|(?i:al|el|as|ad|ash|an|ar|at)-)"
_WORD = (
    rf"(?:[{_HAN}]{{1,6}}|[{_UPPER}](?:[{_LETTER}]|['’ʼ-](?=[{_LETTER}])){{0,40}}(?!\.[{_UPPER}])"
    rf"|[{_CASELESS}][{_LETTER}]{{0,20}})"
)
_NAMED = rf"(?:{_PREFIX}){{0,5}}{_WORD}"
_NAME = rf"(?:{_NAMED}(?:{_GAP}{_NAMED}){{0,2}})"

_LOWER_TITLES = r"dr|prof|mr|mrs"
_PLURAL = r"drs|profs|doctors|messrs"
_TITLES = (
    rf"{_PLURAL}|dr|mr|mrs|ms|miss|mx|prof|professor|doctor|sir|rev|reverend|sister|nurse|herrn?|frau|mme|mlle|"
    r"dra|sra|srta|dott|mevr|dhr|д-р|др|проф|δρ|د"
)
_DEGREES = r"med|dent|vet|rer|nat|phil|h\.[ ]?c|habil|univ|em|ing|jur|mult|theol|pharm"
_TITLE = re.compile(
    rf"{_START}(?P<title>(?i:{_TITLES}))\b(?P<stop>\.?)(?:\s{{0,2}}(?i:{_TITLES}|{_DEGREES})\b\.?){{0,8}}(?:\s{{1,3}}|(?<=\.))"
)
_BEHIND = r"(?:M\.?D\b|D\.O\b|Ph\.?D\b|R\.?N\b|M\.?B\.?B\.?S\b|FRCR\b|PA-C\b)"
_NO_TITLE = rf"(?!(?i:{_TITLES})\b|{_BEHIND})"
_LISTED = rf"{_NO_TITLE}{_NAMED}(?:,?{_GAP}{_NO_TITLE}{_NAMED}){{0,3}}"

_LABEL = re.compile(
    r"\b(?i:patient(?:'s)?(?:\s+name)?|name|gp|pcp|primary\s+care\s+physician|(?<!\d )cc|cop(?:y|ies)\s+to|"
    r"(?:attending|referring|ordering|requesting|reporting|dictating|signing|interpreting|consulting|reading|"
    r"supervising|responsible)(?:\s+(?:physician|provider|doctor|clinician|radiologist|consultant|surgeon))?|"
    r"radiologist|resident|fellow|consultant|physician|clinician|surgeon|referrer|technologist|radiographer|tech|"
    r"transcriptionist|provider|author|reader|"
    r"(?:(?:electronically|digitally)\s+)?(?:dictated|e-?signed|signed|transcribed|typed|reported|read|interpreted|"
    r"reviewed|verified|approved|finalized|authenticated|ordered|requested|referred|performed)"
    r"(?:\s+electronically)?(?:\s+by)?)"
    rf"\s?:\s{{0,3}}(?P<all>{_LISTED})"
)
_REPORTING = re.compile(
    r"\b(?i:(?:dictated|signed|transcribed|typed|reported|read|interpreted|reviewed|verified|approved|finalized|"
    r"authenticated|ordered|requested|referred)(?:\s+electronically)?\s+by|discussed\s+with|"
    r"(?:called|communicated|reported|conveyed)\s+to|notified)"
    rf"\s{{1,3}}(?P<all>{_LISTED})"
)
_DEGREED = re.compile(rf"{_START}(?P<all>{_LISTED})(?=,?\s+{_BEHIND}|,\s+(?:DO|NP|PA)\b)")
_CARETS = re.compile(r"\b(?P<all>[A-Za-z'’-]{2,40}\^[A-Za-z'’^ -]{1,60})")

_NAME_HERE = re.compile(_NAME)
_LOWER_NAME = re.compile(
    rf"(?:{_PARTICLE}\s{{1,3}}){{0,4}}(?P<word>[a-zß-öø-ÿ]{{2,30}}(?:-[a-zß-öø-ÿ]{{2,30}})?)\b"
)
_NEXT_NAME = re.compile(r"(?:\s?[,/&]\s?(?:(?:and|und|et|en|y)\s)?|\s(?:and|und|et|en|y)\s)(?=\S)")
_INITIAL = re.compile(rf"[{_UPPER}]\.")
_TRAILING = re.compile(rf"(?:^|\s+){_PARTICLE}$")

_NO_NAME = frozenset(
    words(
        "of at the on by was were in and or for to from with is are has had have will who that this "
        "these said stated reported notified aware please if no not none there nil chest lung lungs "
        "heart findings finding impression indication history comparison technique report reports "
        "reviewed review called paged contacted informed told agrees agreed concurs discussed "
        "requested ordered recommends recommended read dictated signed electronically pleural "
        "effusion effusions pneumothorax cardiac cardiomegaly pulmonary mediastinum mediastinal "
        "bilateral consolidation atelectasis pneumonia edema nodule mass opacity opacities fracture "
        "bones bony left right upper lower small mild moderate stable unchanged normal clear acute "
        "lateral portable radiograph radiographs film films images image imaging view views exam "
        "examination study studies scan brain spine angiography abdomen pelvis head neck system plate "
        "detector digital unit department radiology emergency medicine surgery clinic hospital "
        "service office team telephone phone fax pager practitioner manager staff resident fellow "
        "attending physician radiologist nurse doctor technologist supine upright erect sitting "
        "standing rotated intubated male female adult pediatric inpatient outpatient icu er ed "
        "unknown see same above below as an a it he she they we you patient date time name mrn dob "
        "sex age accession page also then when while after before about regarding re via per "
        "correlate clinical clinically call back covering asked answered responded verbalized "
        "acknowledged understood electronic final preliminary addendum conclusion opinion summary"
    )
)
"""Words that end a name."""

_ALSO_NAMES = frozenset(words("will said head small read call page lung an he you"))
"""Those of them that are somebody's name where they stand right behind a title."""


def find_names(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each name begins and ends (exclusive); two of them may overlap."""
    for title in _TITLE.finditer(text):
        yield from _titled(text, title)
    for pattern in (_LABEL, _DEGREED, _CARETS):
        for match in pattern.finditer(text):
            yield from _cut(text, *match.span("all"))
    for match in _REPORTING.finditer(text):
        for start, end in _cut(text, *match.span("all")):
            if re.search(
                r"[\s.'’]", text[start:end]
            ):  # one word alone may be anything: "discussed with Radiology"
                yield start, end


def _titled(text: str, title: re.Match[str]) -> Iterator[tuple[int, int]]:
    """The name behind a title; behind the title of several, all of theirs."""
    said, start = title["title"], title.end()
    if said.islower() and not re.fullmatch(rf"{_LOWER_TITLES}|{_PLURAL}|д-р|др|проф|δρ|د", said):
        return
    name = _NAME_HERE.match(text, start)
    if name is None:
        yield from _lower_case(text, title)
        return
    if said in ("MR", "MS") and not title["stop"] and not name[0].isupper():
        return  # magnetic resonance
    if said.lower() == "sister" and name[0].startswith("Mary Joseph"):
        return  # a nodule
    several = re.fullmatch(_PLURAL, said, re.IGNORECASE) is not None
    while name is not None:
        span = next(_cut(text, *name.span(), titled=True), None)
        if span is None:
            return
        yield span
        joint = _NEXT_NAME.match(text, span[1]) if several else None
        name = _NAME_HERE.match(text, joint.end()) if joint else None


def _lower_case(text: str, title: re.Match[str]) -> Iterator[tuple[int, int]]:
    """The name behind a title where both are in lower case, if no report uses the word."""
    said = title["title"]
    if not re.fullmatch(_LOWER_TITLES, said) or (said == "mr" and not title["stop"]):
        return
    name = _LOWER_NAME.match(text, title.end())
    if name is None or name["word"] in _NO_NAME or name["word"] in _report_words():
        return
    if not re.fullmatch("x+", name["word"]):
        yield name.span()


def _cut(text: str, start: int, end: int, titled: bool = False) -> Iterator[tuple[int, int]]:
    """The words of a name up to the first that no name holds; nothing where it is blanked already."""
    for word in re.finditer(r"[^\s,]+", text[start:end]):
        plain = word[0].lower() if _INITIAL.match(word[0]) else word[0].lower().rstrip(".")
        if plain in _NO_NAME and not (titled and word.start() == 0 and plain in _ALSO_NAMES):
            end = start + word.start()
            break
    end = start + len(text[start:end].rstrip(" ,\t\n"))
    if not _TRAILING.fullmatch(text[start:end]) and end > start and "XXXX" not in text[start:end]:
        yield start, end


@cache
def _report_words() -> frozenset[str]:
    """Every word in a phrase of the labeler."""
    templates = (t for phrases, _ in chain(mentions.phrases(), cues.phrases()) for t in phrases.split(";"))
    return frozenset(word for template in templates for phrase in spell_out(template) for word in phrase)
