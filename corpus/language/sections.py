"""Reports as text: split into sections by their headings, and into sentences.

Headings differ between departments; the names of sections do not (`findings`, `impression` and `body` are
embedded and labelled, see `corpus.records.Report`). Every step takes time linear in the text, whatever the
text: the patterns have no nested repetition, and each is anchored to a word or a line.
"""

import html
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from corpus.language.detection import lexicon_of, report_language
from corpus.language.forms import ANSWERS, LIST_MARK, VALUES, has_signed_items, joined_lines
from corpus.language.headings import OPENING_OF, SECTION_OF, heading_pattern, is_heading
from corpus.language.lexicon import ENGLISH, Lexicon, plain
from corpus.language.report_versions import Part, resolve_versions
from corpus.records import DESCRIBING, ItemId, Report, Section

_HEADING = heading_pattern(SECTION_OF)
_NOT_DESCRIBING = frozenset({"indication", "history", "diagnosis", "comparison", "technique", "examination"})
_LETTERHEAD = re.compile(
    r"^[ ]?(?:(?:final|preliminary|radiology|addended|chest) (?:radiology )?report:?|[_=*-]+)[ ]?$",
    re.IGNORECASE | re.MULTILINE,
)

_LINE_TAG = re.compile(r"<(?:br|/?p|/?div|/?li|/?tr|/?h\d)\b[^<>]{0,200}>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_LINE_END = re.compile(r"\r\n?|[\u2028\u2029\f\v\x85]")
# Zero-width characters and the byte-order mark mean nothing; other control characters separate words.
_INVISIBLE = re.compile(r"[\u200b-\u200f\u2060\ufeff\u00ad]")
_BLANKS = re.compile(r"[^\S\n]+|[\x00-\x08\x0e-\x1f\x7f]+")
_LEADERS = re.compile(
    rf"(?<=[^\W_])[ ]?(?:\t+|\.{{3,}}|_{{2,}}|…+)\s?(?={ANSWERS}\b[ ]?(?:[.;,\t\n]|$))", re.IGNORECASE
)
_CELLS = re.compile(rf"[;,\t][ ]?(?={VALUES}[ ]?(?:[\t\n]|$))", re.IGNORECASE | re.MULTILINE)
"""Separates a label from its value where a row of a table is a line: "Pneumothorax;No"."""
_LABEL = re.compile(r"[^\t:;,.]{2,60}")
_PARAGRAPH = re.compile(r"\n ?(?:\n ?)+")


def clean_text(text: str) -> str:
    """Return the text with uniform line ends and blanks, without mark-up and invisible characters.

    A tab or dots before an answer ("Pneumothorax ..... No") become a colon, and so does the separator in a
    line of a label and its answer ("Pneumothorax;No").
    """
    text = _LINE_END.sub("\n", text)
    if "<" in text:
        text = _TAG.sub(" ", _LINE_TAG.sub("\n", text))
    if "&" in text:
        text = html.unescape(text)
    text = _LEADERS.sub(": ", _INVISIBLE.sub("", text))
    text = _CELLS.sub(_join_cells, text)
    return _BLANKS.sub(" ", text).strip()


def _join_cells(match: re.Match[str]) -> str:
    """Return a colon for the separator of two cells; for commas and semicolons only behind a bare label."""
    before = match.string[max(0, match.start() - 61) : match.start()].rpartition("\n")[2]
    if match[0][0] == "\t":
        return ": " if before.rstrip()[-1:].isalnum() else match[0]
    return ": " if _LABEL.fullmatch(before) else match[0]


def parse_report(study_id: str, text: str, language: str | None = None) -> Report:
    """Split a report into sections.

    Headings are recognised in capitals or mixed case, with a colon in a line or alone on theirs. A text
    without any becomes one `body`, as does the text before the first heading. A letterhead is left out. Many
    reports have the description under no heading, as a separate paragraph below the comparison: where no
    `findings` heading exists, such paragraphs are `body`. An empty text gives a report without sections.
    English headings are recognised in every language, those of a lexicon in its own.

    Args:
        study_id: the study's id; the report's becomes `<study_id>#report`.
        text: the report as written, of any length.
        language: ISO 639-1 code; None takes the configured one, else the detected one.
    """
    text = clean_text(text)
    found = _split_sections(text, _HEADING, SECTION_OF)
    if language is None:
        language = report_language("\n".join(part.text for part in found))
    lexicon = lexicon_of(language)
    if lexicon is not None and lexicon.headings:
        found = _split_sections(unicodedata.normalize("NFC", text), *_headings_of(lexicon))
    if not any(part.name == "findings" for part in found):
        found = [piece for part in found for piece in _free_paragraphs(part)]
    sections = tuple(Section(name, body) for name, part in resolve_versions(found) if (body := part.strip()))
    return Report(ItemId.report(study_id).text, sections, language, lexicon is not None)


@lru_cache(maxsize=16)
def _headings_of(lexicon: Lexicon) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return the pattern of the headings of a language, and the section that each opens."""
    section_of = {**SECTION_OF, **lexicon.headings}
    return heading_pattern(section_of), section_of


def _split_sections(text: str, headings: re.Pattern[str], section_of: Mapping[str, str]) -> list[Part]:
    """Return the sections of a text in order, the text before the first heading as `body`."""
    matches = [match for match in headings.finditer(text) if is_heading(match, section_of)]
    opening = text[: matches[0].start()] if matches else text
    ends = [*(m.start() for m in matches[1:]), len(text)][: len(matches)]
    parts = [
        _part(match, text[match.end() : end], section_of) for match, end in zip(matches, ends, strict=True)
    ]
    inline = [_is_inline(match, text) for match in matches]
    return [Part("body", _LETTERHEAD.sub("", opening)), *_resume(parts, inline)]


def _is_inline(match: re.Match[str], text: str) -> bool:
    """Return whether a heading in lower case stands within a line."""
    heading = match["any"]
    return (
        heading is not None and not heading.isupper() and "\n" not in text[match.start() - 2 : match.start()]
    )


def _part(match: re.Match[str], text: str, section_of: Mapping[str, str]) -> Part:
    """Return the part of a heading and its text."""
    heading = next(word for group in _GROUPS if (word := match[group])).lower()
    opening = OPENING_OF.get(heading)
    if opening is not None:
        text = _LETTERHEAD.sub("", text)
    return Part(section_of[heading], text, opening, match["suffix"] or match["number"] or "")


_GROUPS = ("any", "opening", "capitals", "alone", "signed")
_SENTENCE_END = re.compile(r"[.!?](?=\s)")


def _resume(parts: Sequence[Part], inline: Sequence[bool]) -> Iterator[Part]:
    """End a question or history within a line of the reading with its sentence; the reading then continues.

    "FINDINGS: Right opacity. Background: emphysema. No effusion." denies the effusion.
    """
    before = ""
    for part, within in zip(parts, inline, strict=True):
        end = _SENTENCE_END.search(part.text) if within else None
        if before in ("findings", "impression") and part.name in ("history", "indication") and end:
            yield replace(part, text=part.text[: end.end()])
            yield Part(before, part.text[end.end() :])
        else:
            yield part
            before = part.name


def _free_paragraphs(part: Part) -> Iterator[Part]:
    """Separate the paragraphs below an indication or comparison: they are the description."""
    if part.name not in _NOT_DESCRIBING and part.opening != "preliminary":
        yield part
        return
    first, *others = _PARAGRAPH.split(part.text.strip())
    yield replace(part, text=first)
    if others:
        yield Part("body", "\n\n".join(others))


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
_STOP_OR_MARK = re.compile(r"(?<=\s)(?=\(?(?P<number>\d{1,2})[.)]\s[A-Z])|[.!?。！？]+[\"')\]]*")
_WIDE_STOPS = "。！？"
_LAST_WORD = re.compile(r"[^\s(\[\"']{1,20}$")
_NEXT_WORDS = re.compile(r"([A-Za-z]{2,})(?:[\s,]|$)")
_ANSWER = re.compile(rf"\s?{ANSWERS}\b\s?(?:[.;,]|$)", re.IGNORECASE)
_SIDE_BEFORE = re.compile(r"\b(?:right|left|rt|lt|r|l) ?: ?[^.:]{1,20}$", re.IGNORECASE)
_SIDE_AFTER = re.compile(r"\s(?:right|left|rt|lt|r|l) ?:", re.IGNORECASE)
_SPACES = re.compile(r"\s+")


def split_sentences(text: str, lexicon: Lexicon = ENGLISH) -> list[str]:
    """Split a text into sentences, in order, none of them empty.

    Full stops in decimals (1.5 cm), abbreviations (Dr., e.g.) and initials do not end a sentence; one with a
    missing blank (`lung.There`) does. Marks of numbered or bulleted lists begin a sentence and are dropped. A
    line end is a blank in a wrapped line, and an end after a short line or before a list mark.
    """
    sentences: list[str] = []
    for block in joined_lines(text):
        sentences.extend(_split_block(block, lexicon))
    return sentences


def _split_block(block: str, lexicon: Lexicon) -> Iterator[str]:
    """Yield the sentences of one run of text."""
    opening = LIST_MARK.match(block)
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
        elif mark.start() >= marks_end and _ends_sentence(block, mark, lexicon):
            ends.append(mark.end())
    start = 0
    for end in [*ends, len(block)]:
        sentence = _without_mark(block[start:end])
        if sentence:
            yield sentence
        start = max(start, end)


def _without_mark(sentence: str) -> str:
    """Return a sentence without blanks around it and the list mark before it; empty if it has only signs."""
    sentence = _SPACES.sub(" ", sentence).strip()
    mark = LIST_MARK.match(sentence)
    if mark and not has_signed_items(sentence):
        sentence = sentence[mark.end() :].strip()
    return sentence if any(c.isalnum() for c in sentence) else ""


def _ends_sentence(block: str, stop: re.Match[str], lexicon: Lexicon) -> bool:
    """Return whether a stop ends a sentence."""
    if stop[0][0] in _WIDE_STOPS:
        return True
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
    if word.lower() in _ABBREVIATIONS or (lexicon.abbreviations and plain(word) in lexicon.abbreviations):
        return False
    following_sign = after.lstrip()[:1]
    if word.lower() == "no" and following_sign.isdigit():
        return False
    if len(word) == 1 and word.isalpha() and word.isupper():
        return False
    if word.isdigit() and len(word) <= 2:
        if lexicon.ordinals and following_sign.isalpha():  # "3. Rippe"
            return False
        # A list mark: it ends nothing when it opens the sentence ("1. No effusion").
        opened = stop.start() - len(word)
        before = block[max(0, opened - 4) : opened].rstrip()[-1:]
        return bool(before) and before not in ".!?"
    return True


def _joins_answer(block: str, stop: re.Match[str], after: str) -> bool:
    """Return whether a mark stands before its word ("? effusion"), or before its answer ("Effusion? No.").

    So does a full stop between the answers for two sides: "Pneumothorax: Right: No. Left: Yes."
    """
    if stop[0] == ".":
        if _SIDE_AFTER.match(after) is None:
            return False
        return _SIDE_BEFORE.search(block, max(0, stop.start() - 30), stop.start()) is not None
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


def has_words(text: str) -> bool:
    """Return whether a text has a word other than the `XXXX` of de-identification."""
    return any(not _BLANKED.fullmatch(m[0]) for m in _WORD.finditer(text))


def sentences(report: Report) -> list[str]:
    """Return the sentences that describe the image, in order, without those of nothing but `XXXX`.

    The index in this list is the sentence's position in its id, `<study_id>#report.<position>`.
    """
    texts = [s.text for s in report.sections if s.name in DESCRIBING]
    lexicon = lexicon_of(report.language) or ENGLISH
    return [sentence for text in texts for sentence in split_sentences(text, lexicon) if has_words(sentence)]
