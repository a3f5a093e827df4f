"""Names of patients and staff in a text: behind a title, a label or a verb of reporting, or before a degree.

A name consists of words that begin with a capital, in any script with capitals, and of whole words in scripts
without; of initials ("J.", "A.-M."), and of particles before them ("van den", "de la", "al-"). Words that no
name has end it, and so do the labeler's; those of them that are surnames too ("Small", "He") end it only
where a report continues behind them. In lower case a name is recognised behind an abbreviated title, as one
word that no report uses, and behind a signature label, where it fills the line. Every pattern is bounded, so
that time is linear in the length of the text.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import chain

from corpus.language import mentions, triggers
from corpus.language.phrases import choices_of, words, words_of


def _class(*categories: str) -> str:
    """Return the characters of some Unicode categories (`Lu`; `L`), as the inside of a class."""
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
# A name continues behind a line end in a wrapped line only, or where a particle opens the next one.
_GAP = (
    r"(?:[^\S\n]{1,3}|(?<=[^\n]{50})\n[^\S\n]?|\n[^\S\n]?(?=(?:von|van|de|der|den|da|di|bin|ten|ter|zu)\s))"
)

_PARTICLE = (
    r"(?:(?i:von|van|vom|zum|zur|zu|und|de|del|della|delle|dello|di|da|dal|dos|das|do|du|des|la|las|le|les|lo|los|"
    r"der|den|dem|ten|ter|te|el|al|bin|bint|ben|ibn|abu|af|av|san|santa|saint|sainte|st|ste|op|ap|mac|mc)\b\.?"
    r"|in(?=\s['’]t\b)|van['’]t\b|['’][tsn]\b|v\.[ ]?(?:d\.)?|vd\b)"
)
_INITIALS = rf"(?>[{_UPPER}]\.(?:[ ]?-?[{_UPPER}]\.){{0,3}})"
_PREFIX = (
    rf"(?:{_INITIALS}\s{{0,2}}|{_PARTICLE}\s{{1,3}}|(?:del?|v[ao]n|d[ia]|l[ae]|al)(?=[{_UPPER}])"
    r"|(?i:[dlo]['’])[ ]?|(?i:al|el|as|ad|ash|an|ar|at)-)"
)
_WORD = (
    rf"(?:[{_HAN}]{{1,6}}|[{_UPPER}](?:[{_LETTER}]|['’ʼ-](?=[{_LETTER}])){{0,40}}(?!\.[{_UPPER}])"
    rf"|[{_CASELESS}][{_LETTER}]{{0,20}})"
)
_NAMED = rf"(?>(?:{_PREFIX}){{0,5}}{_WORD})"  # atomic: each "Van" of many can be a particle or a word
_NAME = rf"(?:{_NAMED}(?:{_GAP}{_NAMED}){{0,3}})"

_LOWER_TITLES = r"dr|prof|mr|mrs|ms"
_PLURAL = r"drs|dr['’]s|profs|doctors|messrs"
_CYRILLIC_TITLES = r"д-р|др|доктор|проф|профессор|врач|г-н|г-жа"
_TITLES = (
    rf"{_PLURAL}|dr|mr|mrs|ms|miss|mx|prof|professor|doctor|sir|rev|reverend|sister|nurse|herrn?|frau|mme|mlle|"
    rf"dra|sra|srta|dott|mevr|dhr|{_CYRILLIC_TITLES}|δρ|د"
)
_BESIDES = r"nurse|sister|doctor|professor"
"""Titles that are everyday words too: "Nurse Call"."""
_DEGREES = r"med|dent|vet|rer|nat|phil|h\.[ ]?c|habil|univ|em|ing|jur|mult|theol|pharm"
_TITLE = re.compile(
    rf"{_START}(?P<title>(?i:{_TITLES}))\b(?P<stop>\.?)(?:\s{{0,2}}(?i:{_TITLES}|{_DEGREES})\b\.?){{0,8}}(?:\s{{1,3}}|(?<=\.))"
)
_BEHIND = r"(?:M\.?D\b|D\.O\b|Ph\.?D\b|R\.?N\b|M\.?B\.?B\.?S\b|FRCR\b|PA-C\b)"
_NO_TITLE = rf"(?!(?i:{_TITLES})\b|{_BEHIND})"
_LISTED = rf"{_NO_TITLE}{_NAMED}(?:(?:,?{_GAP}|[ ]?[/&][ ]?){_NO_TITLE}{_NAMED}){{0,3}}"

_SIGNING = (
    r"(?:attending|referring|ordering|requesting|reporting|dictating|signing|interpreting|consulting|reading|"
    r"supervising|responsible)(?:\s+(?:physician|provider|doctor|clinician|radiologist|consultant|surgeon))?|"
    r"radiologist|resident|fellow|consultant|physician|clinician|surgeon|referrer|technologist|radiographer|tech|"
    r"transcriptionist|provider|author|reader|primary\s+care\s+physician|"
    r"(?:(?:electronically|digitally)\s+)?(?:dictated|e-?signed|signed|transcribed|typed|authenticated)"
    r"(?:\s+electronically)?(?:\s+by)?|"
    r"(?:reported|read|interpreted|reviewed|verified|approved|finalized|ordered|requested|referred|performed)"
    r"(?:\s+electronically)?\s+by"
)
_LABEL = re.compile(
    rf"\b(?:(?i:patient(?:'s)?|name|gp|pcp|cop(?:y|ies)\s+to|{_SIGNING})\s?:"
    rf"|(?i:patient(?:'s)?\s+name)(?:\s?(?::|[-–](?=\s))|\t)|(?i:{_SIGNING})\s[-–](?=\s))\s{{0,3}}(?P<all>{_LISTED})"
)
# "CC: Cough" is a complaint and "Read: Kerley lines" a finding: a name has more to it than words.
_AMBIGUOUS_LABEL = re.compile(
    r"\b(?i:(?<!\d )cc|reported|read|interpreted|reviewed|verified|approved|finalized|ordered|requested|"
    rf"referred|performed)\s?:\s{{0,3}}(?P<all>{_LISTED})"
)
_MARKED = re.compile(  # an initial, a particle, "Surname, Given", "McDonald", or a letter of another language
    rf"(?<![{_LETTER}])[{_UPPER}](?![{_LETTER}])|^[a-z’']{{1,7}}[\s'’-]|[{_LETTER}],\s|[a-z][A-Z]"
    r"|[^\W\x00-\x7f]"
)
_LOWER_LABEL = re.compile(
    rf"(?i:\b(?:patient(?:'s)?\s+name|{_SIGNING})\s?:)[^\S\n]{{0,3}}"
    r"(?P<all>[a-zß-öø-ÿ]{2,20}(?:[ ][a-zß-öø-ÿ]\.?)?(?:[ -][a-zß-öø-ÿ]{2,20}){1,3})"
    r"(?=[.;]?[^\S\n]{0,3}(?:\n|$))"
)
_HONOURED = re.compile(rf"(?<![{_HAN}])(?!患者|家族|主治|担当|看護)[{_HAN}]{{1,4}}(?=先生|様|さん)")
_REPORTING = re.compile(
    r"\b(?i:(?:dictated|signed|transcribed|typed|reported|read|interpreted|reviewed|verified|approved|finalized|"
    r"authenticated|ordered|requested|referred)(?:\s+electronically)?\s+by|discussed\s+with|"
    r"(?:called|communicated|reported|conveyed)\s+to|notified)"
    rf"\s{{1,3}}(?P<all>{_LISTED})"
)
_DEGREED = re.compile(rf"{_START}(?P<all>{_LISTED})(?=,?\s+{_BEHIND})")
_ASSISTING = re.compile(  # "Sternum, PA" is a projection
    rf"{_START}(?P<all>{_LISTED})(?=,\s+(?:DO|NP|PA)\b(?!\s+(?i:and|or|lat(?:eral)?|views?|film|only|not)\b|/))"
)
_CARETS = re.compile(r"\b(?P<all>[A-Za-z'’-]{2,40}\^[A-Za-z'’^ -]{1,60})")

_NAME_HERE = re.compile(_NAME)
_INITIALS_BEHIND = re.compile(rf",\s?(?!{_BEHIND})[{_UPPER}]\.[ -]?[{_UPPER}](?=\.)")
_LOWER_NAME = re.compile(
    rf"(?:{_PARTICLE}\s{{1,3}}){{0,4}}(?:[odl]['’])?(?P<word>[a-zß-öø-ÿ]{{2,30}}(?:-[a-zß-öø-ÿ]{{2,30}})?)\b"
)
_NEXT_NAME = re.compile(r"(?:\s?[,/&]\s?(?:(?:and|und|et|en|y)\s)?|\s(?:and|und|et|en|y)\s)(?=\S)")
_WORDS = re.compile(r"[^\s,/&]+")
_LONE = re.compile(rf"[{_UPPER}]")
_ENDED = re.compile(rf"\s*(?:$|[\n.,;)/&'’]|and\s+(?i:{_TITLES})\b)")
_NOT_ALONE = re.compile(r"[\s.'’]")
_NEXT_WORD = re.compile(rf"[^\S\n]{{0,3}}([{_LETTER}]+)")

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
        "acknowledged understood electronic final preliminary addendum conclusion opinion summary "
        "general practice urgent care intensive primary oncology nursing teleradiology services inc ai "
        "software ct cta mri cxr xr us pa ap elderly man woman obese pending signature available advised "
        "lines lymphadenopathy sternum hyperinflated"
    )
)
"""Words that end a name."""

_ALSO_NAMES = frozenset(
    words(
        "will said head small read call page lung an he you back brain day do can may ho old better bone "
        "bones coin drain field fields glass ground hard large lead little line lines long low major mass "
        "nature port post ray real rule see same sharp short still swan top trace well white who"
    )
)
"""Words of reports that are surnames too."""

_BEHIND_NAMES = frozenset(
    words(
        "was were is has had have at on by who via per notified informed told agrees agreed concurs called "
        "paged contacted reviewed aware asked answered responded verbalized acknowledged understood "
        "requested ordered recommends recommended reported stated dictated signed discussed about regarding"
    )
)
"""Words that continue behind a name, and not behind a finding's first word."""


def find_names(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end (exclusive) of each name; two of them may overlap."""
    for title in _TITLE.finditer(text):
        yield from _titled(text, title)
    for pattern in (_LABEL, _DEGREED, _CARETS):
        for match in pattern.finditer(text):
            yield from _trimmed(text, *match.span("all"))
    for pattern in (_AMBIGUOUS_LABEL, _REPORTING):
        for match in pattern.finditer(text):
            for start, end in _trimmed(text, *match.span("all")):
                # Words alone may be anything: "discussed with Radiology", "CC: Cough".
                if (_MARKED if pattern is _AMBIGUOUS_LABEL else _NOT_ALONE).search(text[start:end]):
                    yield start, end
    for match in _ASSISTING.finditer(text):
        start, end = match.span("all")
        parts = text[start:end].split()
        if len(parts) > 1 and not any(_is_of_reports(part.lower().strip(".,")) for part in parts):
            yield start, end
    for match in _LOWER_LABEL.finditer(text):
        if not any(map(_is_of_reports, match["all"].replace("-", " ").split())):
            yield match.span("all")
    yield from (match.span() for match in _HONOURED.finditer(text))


def _titled(text: str, title: re.Match[str]) -> Iterator[tuple[int, int]]:
    """Yield the name behind a title; behind a plural title, all its names."""
    titled, start = title["title"], title.end()
    if titled.islower() and not re.fullmatch(rf"{_LOWER_TITLES}|{_PLURAL}|{_CYRILLIC_TITLES}|δρ|د", titled):
        return
    name = _NAME_HERE.match(text, start)
    if name is None:
        yield from _lower_case(text, title)
        return
    if titled in ("MR", "MS") and not title["stop"] and not name[0].isupper():
        return  # magnetic resonance
    if titled.lower() == "sister" and name[0].startswith("Mary Joseph"):
        return  # a nodule
    if titled.lower() in ("nurse", "sister") and name[0].lower() in _NO_NAME:
        return  # "Nurse Call"
    several = re.fullmatch(_PLURAL, titled, re.IGNORECASE) is not None
    sure = not re.fullmatch(_BESIDES, titled, re.IGNORECASE) and "\n" not in text[title.start() : start]
    while name is not None:
        span = next(_trimmed(text, *name.span(), titled=sure), None)
        if span is None:
            return
        initials = _INITIALS_BEHIND.match(text, span[1])
        yield span if initials is None else (span[0], initials.end())
        joint = _NEXT_NAME.match(text, span[1]) if several else None
        name = _NAME_HERE.match(text, joint.end()) if joint else None


def _lower_case(text: str, title: re.Match[str]) -> Iterator[tuple[int, int]]:
    """Yield the name behind a title where both are in lower case, if no report uses the word."""
    titled = title["title"]
    if not re.fullmatch(_LOWER_TITLES, titled) or (titled in ("mr", "ms") and not title["stop"]):
        return
    if titled == "ms" and text[: title.start()].rstrip()[-1:].isdigit():
        return  # milliseconds
    name = _LOWER_NAME.match(text, title.end())
    if name is None or _is_of_reports(name["word"]):
        return
    if not re.fullmatch("x+", name["word"]):
        yield name.span()


def _trimmed(text: str, start: int, end: int, titled: bool = False) -> Iterator[tuple[int, int]]:
    """Yield the words of a name up to the first that no name has; nothing where it is already removed.

    Args:
        text: all of it.
        start: where the name begins.
        end: where it ends at the latest.
        titled: a title stands right before it, so that any surname may follow.
    """
    for word in _WORDS.finditer(text, start, end):
        if _ends_name(text, word, titled and word.start() == start):
            end = word.start()
            break
    end = start + len(text[start:end].rstrip(" ,\t\n/&"))
    if end > start and "XXXX" not in text[start:end]:
        yield start, end


def _ends_name(text: str, word: re.Match[str], titled: bool) -> bool:
    """Return whether a word is not part of a name; `titled`: it stands right behind a title."""
    plain = word[0].lower()
    if word[0].islower():
        return False  # a particle: "in 't Veld"
    if _LONE.fullmatch(word[0]):
        known = _is_of_reports(plain) and (not titled or plain in _NO_NAME)
        return known and not _is_initial(text, word.end())
    if titled:
        return plain in _NO_NAME and plain not in _ALSO_NAMES
    if not _is_of_reports(plain):
        return False
    return plain not in _ALSO_NAMES or not _is_surname(text, word.end())


def _is_initial(text: str, end: int) -> bool:
    """Return whether a single capital that ends here is an initial, and no article or side."""
    if _ENDED.match(text, end):
        return True
    word = _NEXT_WORD.match(text, end)
    if word is None or not word[1][0].isupper():
        return False
    plain = word[1].lower()
    return (
        len(plain) == 1
        or not _is_of_reports(plain)
        or (plain in _ALSO_NAMES and _is_surname(text, word.end()))
    )


def _is_surname(text: str, end: int) -> bool:
    """Return whether a word of reports and of names is a name by the text behind it."""
    if _ENDED.match(text, end):
        return True
    word = _NEXT_WORD.match(text, end)
    if word is None:
        return False
    plain = word[1].lower()
    return plain in _BEHIND_NAMES or (word[1][0].isupper() and not _is_of_reports(plain))


def _is_of_reports(word: str) -> bool:
    """Return whether reports use a word (in lower case), so that it is usually no name."""
    return word in _NO_NAME or word in _report_words()


@cache
def _report_words() -> frozenset[str]:
    """Return every word in a phrase of the labeler."""
    templates = (
        t for phrases, _ in chain(mentions.phrases(), triggers.phrases()) for t in phrases.split(";")
    )
    return words_of(map(choices_of, templates))
