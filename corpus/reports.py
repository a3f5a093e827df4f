"""Reports as text: cut into sections by their headings, and into sentences.

Headings differ from department to department; the names of sections do not (`corpus.records.Report` embeds
and labels `findings`, `impression` and `body`). Every step runs in time linear in the text, whatever the
text: the patterns have no nested repetition, and each is anchored to a word or a line.
"""

import html
import re
from collections.abc import Iterator

from corpus.forms import opens_with_box
from corpus.records import Report, Section

_HEADINGS: dict[str, tuple[str, ...]] = {
    "findings": ("findings", "finding", "chest findings", "radiographic findings", "observations"),
    "impression": (
        "impression", "impressions", "conclusion", "conclusions", "opinion", "summary", "interpretation",
        "findings and impression", "findings/impression", "findings / impression", "impression/plan",
    ),
    "indication": (
        "indication", "indications", "clinical indication", "clinical indications", "indication for study",
        "reason for exam", "reason for examination", "reason for study", "reason for this examination",
        "clinical information", "clinical question", "reason",
    ),
    "history": (
        "history", "clinical history", "patient history", "past medical history", "medical history",
        "clinical history/indication", "history of present illness",
    ),
    "comparison": ("comparison", "comparisons", "comparison study", "comparison studies", "prior studies"),
    "technique": ("technique", "techniques", "procedure", "protocol", "views", "procedure comments"),
    "examination": ("examination", "examinations", "exam", "study", "exam type", "type of examination"),
    "recommendation": ("recommendation", "recommendations", "notification", "notifications"),
}  # fmt: skip
_SECTION_OF = {heading: name for name, headings in _HEADINGS.items() for heading in headings}
_ANY_HEADING = "|".join(re.escape(h) for h in sorted(_SECTION_OF, key=len, reverse=True))

# A heading opens a line or follows a full stop, in any case, and ends in a colon; in capitals it may stand
# anywhere ("… clear IMPRESSION: normal"); without a colon it must have the line to itself.
_HEADING = re.compile(
    rf"(?:^[ ]?|(?<=[.;?!\])] ))(?P<any>(?i:{_ANY_HEADING})) ?:"
    rf"|(?<![A-Za-z/])(?P<capitals>{_ANY_HEADING.upper()}) ?:"
    rf"|^[ ]?(?P<alone>(?i:{_ANY_HEADING}))[ ]?$",
    re.MULTILINE,
)
_NOT_OF_THE_FILM = frozenset({"indication", "history", "comparison", "technique", "examination"})
_LETTERHEAD = re.compile(
    r"^[ ]?(?:(?:final|preliminary|radiology|addended|chest) (?:radiology )?report:?|[_=*-]+)[ ]?$",
    re.IGNORECASE | re.MULTILINE,
)

_LINE_TAG = re.compile(r"<(?:br|/?p|/?div|/?li|/?tr|/?h\d)\b[^<>]{0,200}>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_LINE_END = re.compile(r"\r\n?|[\u2028\u2029\f\v\x85]")
# Zero-width signs and the byte-order mark carry nothing; other control signs part words.
_INVISIBLE = re.compile(r"[\u200b-\u200f\u2060\ufeff\u00ad]")
_BLANKS = re.compile(r"[^\S\n]+|[\x00-\x08\x0e-\x1f\x7f]+")
_ANSWERS = r"(?:yes|no|none|nil|negative|positive|absent|present)"
_LEADERS = re.compile(
    rf"(?<=[^\W_])[ ]?(?:\t+|\.{{3,}}|_{{2,}}|…+)\s?(?={_ANSWERS}\b[ ]?(?:[.;,\t\n]|$))", re.IGNORECASE
)
_PARAGRAPH = re.compile(r"\n ?(?:\n ?)+")


def clean_text(text: str) -> str:
    """Return the text with one kind of line end and of blank, without mark-up and invisible signs.

    A tab or dots that lead to an answer ("Pneumothorax ..... No") become a colon.
    """
    text = _LINE_END.sub("\n", text)
    if "<" in text:
        text = _TAG.sub(" ", _LINE_TAG.sub("\n", text))
    if "&" in text:
        text = html.unescape(text)
    text = _LEADERS.sub(": ", _INVISIBLE.sub("", text))
    return _BLANKS.sub(" ", text).strip()


def parse_report(study_id: str, text: str) -> Report:
    """Cut a report into sections.

    Headings are known in capitals or mixed case, with a colon in a line or alone on theirs. A text without
    any becomes one `body`; what stands before the first heading too. A letterhead is left out. Many
    reports write the description under no heading, as a paragraph of its own below the comparison: where
    no `findings` heading exists, such paragraphs are `body`. An empty text gives a report with no sections.

    Args:
        study_id: the study's id; the report's becomes `<study_id>#report`.
        text: the report as written, of any length.
    """
    text = clean_text(text)
    matches = list(_HEADING.finditer(text))
    found: list[tuple[str, str]] = []
    opening = text[: matches[0].start()] if matches else text
    found.append(("body", _LETTERHEAD.sub("", opening)))
    ends = [*(m.start() for m in matches[1:]), len(text)][: len(matches)]
    for match, end in zip(matches, ends, strict=True):
        heading = match["any"] or match["capitals"] or match["alone"]
        found.append((_SECTION_OF[heading.lower()], text[match.end() : end]))
    if not any(name == "findings" for name, _ in found):
        found = [part for section in found for part in _free_paragraphs(*section)]
    sections = tuple(Section(name, kept) for name, part in found if (kept := part.strip()))
    return Report(f"{study_id}#report", sections)


def _free_paragraphs(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Set apart the paragraphs below an indication or comparison: they are the description."""
    if name not in _NOT_OF_THE_FILM:
        yield name, text
        return
    first, *others = _PARAGRAPH.split(text.strip())
    yield name, first
    if others:
        yield "body", "\n\n".join(others)


_ABBREVIATIONS = frozenset(
    {
        "dr",
        "mr",
        "mrs",
        "ms",
        "prof",
        "st",
        "vs",
        "approx",
        "cf",
        "fig",
        "figs",
        "e.g",
        "i.e",
        "eg",
        "ie",
        "etc",
    }
    | {"incl", "resp", "ca", "al", "inc", "jr", "sr", "dept", "pt"}
)
_STOP_OR_MARK = re.compile(r"(?<=\s)(?=\(?(?P<number>\d{1,2})[.)]\s[A-Z])|[.!?]+[\"')\]]*")
_LIST_MARK = re.compile(r"\(?(?P<number>\d{1,2})[.)](?=\s|[A-Z])|[-*•‣▪]\s")
_LAST_WORD = re.compile(r"[^\s(\[\"']{1,20}$")
_NEXT_WORDS = re.compile(r"([A-Za-z]{2,})(?:[\s,]|$)")
_ANSWER = re.compile(rf"\s?{_ANSWERS}\b\s?(?:[.;,]|$)", re.IGNORECASE)
_SPACES = re.compile(r"\s+")
_SHORT_LINE = 50
_LONGEST_ITEM = 4
_DENIED_LIST = re.compile(
    r"(?:^|\s)(?:no|nil|without|negative for|free of|absence of|(?:evidence|signs?) of)\s?:$"
    r"|^(?:there (?:is|are) )?(?:no|nil|without|negative for|no (?:evidence|signs?) of)$",
    re.IGNORECASE,
)
_FORM_LINE = re.compile(rf"[^:]{{2,60}}: ?{_ANSWERS}[.;,]?$", re.IGNORECASE)
_ROW = re.compile(rf"(?:right|left|rt|lt|r|l)\b(?! \w+ \w+ )|{_ANSWERS}[.;,]?$", re.IGNORECASE)


def split_sentences(text: str) -> list[str]:
    """Cut a text into sentences, in order, none of them empty.

    Full stops in decimals (1.5 cm), abbreviations (Dr., e.g.) and initials do not end a sentence; one whose
    blank was forgotten (`lung.There`) does. Marks of numbered or bulleted lists begin a sentence and are
    dropped. A line end is a blank in a wrapped line, and an end after a short line or before a list mark.
    """
    sentences: list[str] = []
    for block in _blocks(text):
        sentences.extend(_split_block(block))
    return sentences


def _blocks(text: str) -> Iterator[str]:
    """Join wrapped lines and the rows of a list or form to what they belong to; yield the runs of text."""
    lines = text.splitlines()
    if len(lines) == 1:
        yield lines[0].strip()
        return
    run = _Run()
    for line in map(str.strip, lines):
        if not run.takes(line):
            if run.lines:
                yield run.text()
            run = _Run()
        run.add(line)
    if run.lines:
        yield run.text()


class _Run:
    """Lines that are read as one."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._last = ""
        self._denies = False  # its first line is "no:": a list follows
        self._marked: bool | None = None  # whether the rows of that list have marks
        self._labels = False  # its first line is a label: answers follow

    def takes(self, line: str) -> bool:
        """Whether a line goes on with what is here."""
        if not self.lines:
            return not line
        if not line:
            return False
        mark = _LIST_MARK.match(line)
        if self._denies:
            marked = mark is not None
            return (self._marked in (None, marked)) and (marked or _is_item(line))
        row = line[mark.end() :] if mark else line
        if self._labels and (opens_with_box(row) or _ROW.match(row)):
            return True
        if mark or opens_with_box(line) or opens_with_box(self._last):
            return False
        if _FORM_LINE.match(line) or _FORM_LINE.match(self._last):
            return False
        return not (len(self._last) < _SHORT_LINE and line[:1].isupper())

    def add(self, line: str) -> None:
        """Take a line in."""
        self._last = line
        if not line:
            return
        if not self.lines:
            short = len(line) < _SHORT_LINE or line.endswith(":")
            self._denies = short and _DENIED_LIST.search(line) is not None
            self._labels = line.endswith(":")
        elif self._denies:
            mark = _LIST_MARK.match(line)
            self._marked = mark is not None
            line = (line[mark.end() :] if mark else line).strip(" ,;.")
        elif self._labels and (mark := _LIST_MARK.match(line)):
            line = line[mark.end() :].strip()
        self.lines.append(line)

    def text(self) -> str:
        """The lines, with a blank between; the rows below a denial with commas."""
        if self._denies:
            return f"{self.lines[0]} {', '.join(self.lines[1:])}".strip()
        return " ".join(self.lines)


def _is_item(line: str) -> bool:
    """Whether a line without a mark can be a row of a list: a few words, and no sentence."""
    return line.count(" ") < _LONGEST_ITEM and line[-1] not in ".:"


def _split_block(block: str) -> Iterator[str]:
    """Yield the sentences of one run of text."""
    opening = _LIST_MARK.match(block)
    number = int(opening["number"] or 0) if opening else 0
    ends: list[int] = []
    marks_end = 0
    for mark in _STOP_OR_MARK.finditer(block):
        if mark["number"]:
            # "… effusion 2. Edema": a list goes on within the line only if it counts on.
            if number and int(mark["number"]) == number + 1:
                ends.append(mark.start())
                number += 1
                marks_end = mark.end("number") + 1
        elif mark.start() >= marks_end and _ends_sentence(block, mark):
            ends.append(mark.end())
    start = 0
    for end in [*ends, len(block)]:
        sentence = _without_mark(block[start:end])
        if sentence:
            yield sentence
        start = max(start, end)


def _without_mark(sentence: str) -> str:
    """Drop blanks around a sentence and the list mark before it; nothing but signs is no sentence."""
    sentence = _SPACES.sub(" ", sentence).strip()
    mark = _LIST_MARK.match(sentence)
    if mark:
        sentence = sentence[mark.end() :].strip()
    return sentence if any(c.isalnum() for c in sentence) else ""


def _ends_sentence(block: str, stop: re.Match[str]) -> bool:
    """Whether a stop ends a sentence."""
    after = block[stop.end() : stop.end() + 24]
    if not after:
        return True
    word_match = _LAST_WORD.search(block[max(0, stop.start() - 20) : stop.start()])
    word = word_match[0] if word_match else ""
    if _joins_answer(block, stop, after):
        return False
    only_dot = stop[0] == "."
    if not after[0].isspace():
        # "lung.There", "effusion.no": words on both sides; never "1.5", "e.g.", "U.S.A".
        following = _NEXT_WORDS.match(after)
        return only_dot and following is not None and len(word) > 1 and "." not in word and word.isalnum()
    if not only_dot:
        return True
    if word.lower() in _ABBREVIATIONS:
        return False
    following_sign = after.lstrip()[:1]
    if word.lower() == "no" and following_sign.isdigit():
        return False
    if len(word) == 1 and word.isalpha() and word.isupper():
        return False
    if word.isdigit() and len(word) <= 2:
        # A list mark: it ends nothing when it opens the sentence ("1. No effusion").
        opened = stop.start() - len(word)
        before = block[max(0, opened - 4) : opened].rstrip()[-1:]
        return bool(before) and before not in ".!?"
    return True


def _joins_answer(block: str, stop: re.Match[str], after: str) -> bool:
    """Whether a mark stands before what it asks ("? effusion"), or before its answer ("Effusion? No.")."""
    if stop[0] == ".":
        return False
    if _ANSWER.match(after):
        return True
    if stop[0][0] != "?":
        return False
    before = block[max(0, stop.start() - 4) : stop.start()]
    if not before.strip() or before.rstrip()[-1] in ".!?:;(-*•":
        return True
    following = after.lstrip()[:1]
    return before[-1].isspace() and (following.islower() or not after[0].isspace())


_WORD = re.compile(r"[^\W\d_]{2,}")
_BLANKED = re.compile(r"[xX]+")


def says_something(text: str) -> bool:
    """Whether a text has a word in it other than the `XXXX` that de-identification leaves."""
    return any(not _BLANKED.fullmatch(m[0]) for m in _WORD.finditer(text))


def sentences(report: Report) -> list[str]:
    """The sentences of what a report says of the film, in order; those of nothing but `XXXX` left out.

    The place in this list is the sentence's number in its id, `<study_id>#report.<number>`.
    """
    told = [s.text for s in report.sections if s.name in ("findings", "impression", "body")]
    return [sentence for text in told for sentence in split_sentences(text) if says_something(sentence)]
