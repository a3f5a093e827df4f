"""Forms and lists: ticks and signs as the sentence that they stand for, and lines that are read as one.

"Pleural effusion: [x] present [ ] absent" becomes "Pleural effusion: present", "Effusion (-)" becomes
"Effusion: absent". A tick applies to the label before it. An empty box means nothing, except where it names a
finding beside a ticked one ("[x] Effusion [ ] Pneumothorax"): that finding is denied. A row of empty boxes
denies what they name too: whether a form was filled in is seen only in the whole of it (`is_blank`), and a
form of empty boxes alone is not read at all.

A wrapped line continues, and a row of a form or list belongs to its head: "no:" above a list denies each of
its rows, and "Pleural effusion:" above a box or a side is its label.

The text is stored and shown as written; only the labeler reads it so. Time is linear in its length.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from corpus.redaction import redacted

_TICK = r"[\[(] ?[xX✓✔✗✘✕✖√*•●] ?[\])]|[☑☒✓✔✅■⬛◼]"
_EMPTY = r"\[[ _]?\]|[☐□⬜◻]"
_BOX = re.compile(rf"(?P<tick>{_TICK})|{_EMPTY}|\( \)")
_EMPTY_BOX = re.compile(_EMPTY)
_TICKED_BOX = re.compile(_TICK)
_CROSS = "✗✘✕✖❌"
_BARE_CROSS = re.compile(rf"(?<![\[(])(?<![\[(] )[{_CROSS}]")
_BOXED_CROSS = re.compile(rf"[\[(] ?[{_CROSS}] ?[\])]")
_CHECK = re.compile("[☑✓✔✅]")
_RARE = re.compile(rf"[\[(=+☑☒✓✔✅■⬛◼☐□⬜◻●{_CROSS}]")
"""One of these stands in nearly every form: tested first, since most sentences have none."""
_OFFERED = re.compile(
    r"(?:[,(\[] ?| )(?:yes ?(?:/|or) ?no|y ?/ ?n) ?[)\]]? ?[:?=]{0,2} ?(?=(?:yes|no|none|y|n)\b)",
    re.IGNORECASE,
)
"""The possible answers, before the given one: "Effusion (yes/no): no"."""
_LETTER = re.compile(r"(?<=[^\W\d_]) ?[(\[] ?(?:(?P<no>[nN])|[yY]) ?[)\]]")
_SIGNED_ITEM = re.compile(
    r"(?:^|(?<=[,;.])|(?<=[,;.] ))(?P<sign>[-−–+]) ?(?=[^\W\d_])(?!ve\b)"
    r"|(?<= )(?P<glued>[-−–+])(?=[^\W\d_])(?!ve\b)"
)
"""The sign of a list item; a blank may follow it only behind a stop or a comma."""

_SIGN = re.compile(r"[(\[] ?(?P<sign>[-−–]|\+) ?[)\]]")
_EITHER_SIGN = re.compile(r"[(\[] ?(?:\+ ?/ ?[-−–]|[-−–] ?/ ?\+) ?[)\]]")
_LETTERED = ((re.compile(r"[-−–]ve\b"), "negative"), (re.compile(r"\+ve\b"), "positive"))
_ALONE = re.compile(r"(?<=[:=]) ?(?P<sign>[-−–]{1,3}|\+{1,3})(?= ?(?:[,;.]|/ ?[^\W\d_]|$))")
_SIGN_WORDS = {"-": "absent", "+": "present"}

_FOREIGN_NO = re.compile(
    r"(?<=:) ?(?:[Nn]e|[Ee]i|(?i:non|nej|nei|nee|nein|nie|n[ãa]o|nem|nincs|ikke|inte|keiner?|geen|"
    r"aucune?|нет|не|ні|няма|нема|yok|hayır|όχι))(?= ?(?:[,;.\n]|$))"
)
"""The most frequent words for no behind a label that exists in English: "Pneumothorax: non" is no finding."""

_WORD = re.compile(r"[^\W\d_]+")
_VALUES = frozenset(
    _WORD.findall(
        "yes no y n present absent none nil negative positive neg pos small moderate large mild severe trace "
        "minimal marked tiny left right bilateral both unilateral seen not normal abnormal unknown possible "
        "uncertain stable new old unchanged resolved true false"
    )
)
"""Words that answer a label and name nothing themselves."""
_DENIALS = frozenset(["no", "not", "none", "without", "nil", "absent", "negative"])
_EDGE = " \t\n,;.:/|"


@redacted
class _Option(NamedTuple):
    """One box and the words that belong to it."""

    ticked: bool
    text: str


def is_blank(text: str) -> bool:
    """Return whether a text has empty boxes and none that is ticked: an empty form."""
    return _EMPTY_BOX.search(text) is not None and _TICKED_BOX.search(text) is None


def opens_with_box(line: str) -> bool:
    """Return whether a line begins with a box, or with a cross."""
    return _BOX.match(line) is not None or line[:1] in tuple(_CROSS)


def has_signed_items(text: str) -> bool:
    """Return whether the items of a list have signs, and one of them a plus: "+ effusion, - pneumothorax"."""
    return "+" in text and any((m["sign"] or m["glued"]) == "+" for m in _SIGNED_ITEM.finditer(text))


def has_box(text: str) -> bool:
    """Return whether a text has a box, ticked or empty."""
    return _BOX.search(text) is not None


def fill_form(text: str) -> str:
    """Return the text with its ticks and signs replaced by words; without any, unchanged."""
    if ":" in text:
        text = _FOREIGN_NO.sub(" absent", text)
    if not _RARE.search(text) and "-ve" not in text and ": -" not in text and "es or no" not in text:
        return text
    text = _LETTER.sub(lambda m: ": no." if m["no"] else ": yes.", _OFFERED.sub(": ", text))
    if has_signed_items(text):
        text = _SIGNED_ITEM.sub(lambda m: ". " if (m["sign"] or m["glued"]) == "+" else ". no ", text)
    text = _EITHER_SIGN.sub(": possible.", text)
    for sign, word in _LETTERED:
        text = sign.sub(f" {word}", text)
    text = _ALONE.sub(lambda m: f" {_sign_word(m)}.", text.replace("=", ":"))
    return _fill_boxes(_empty_crosses(_spell_signs(text)))


def _empty_crosses(text: str) -> str:
    """Replace crosses, which mean no by themselves, and rings beside dots by empty boxes."""
    if "●" in text and "○" in text:
        text = text.replace("●", "☑").replace("○", "☐")
    text = _BARE_CROSS.sub("☐", text)
    return _BOXED_CROSS.sub("☐", text) if _CHECK.search(text) else text


def _sign_word(sign: re.Match[str]) -> str:
    return _SIGN_WORDS["+" if sign["sign"][0] == "+" else "-"]


def _spell_signs(text: str) -> str:
    """Replace "(-)" and "(+)" by words: before their term where one opens the text, else behind it."""
    first = _SIGN.search(text)
    if first is None:
        return text
    opening = text[: first.start()].rstrip()
    if opening and opening[-1] not in ":,;.":
        return _SIGN.sub(lambda m: f": {_sign_word(m)}.", text)
    return _SIGN.sub(lambda m: ". " if m["sign"] == "+" else ". no ", text)


def _fill_boxes(text: str) -> str:
    """Replace the boxes of one text by words, row by row."""
    boxes = list(_BOX.finditer(text))
    boxes = [box for box in boxes if box[0] != "( )" or len(boxes) > 1 or not text[: box.start()].strip()]
    if not boxes:
        return text
    starts, ends = [box.start() for box in boxes], [box.end() for box in boxes]
    spans = zip([0, *ends], [*starts, len(text)], strict=True)
    chunks = [text[start:end] for start, end in spans]
    ticked = [box["tick"] is not None for box in boxes]
    head, last = chunks[0], chunks[-1]
    trailing = bool(head.strip(_EDGE)) and not head.rstrip().endswith(":") and not last.strip(_EDGE)
    if trailing:
        head, first = _split_label(head)
        return _write_rows(head, list(zip(ticked, [first, *chunks[1:-1]], strict=True)))
    return _write_rows(head, list(zip(ticked, chunks[1:], strict=True)))


def _split_label(text: str) -> tuple[str, str]:
    """Split "Effusion: present" or "Effusion yes", before its box, into label and answer."""
    label, colon, answer = text.rpartition(":")
    if colon:
        return label + colon, answer
    found = list(_WORD.finditer(text))
    if len(found) > 1 and found[-1][0].lower() in _VALUES:
        return text[: found[-1].start()], text[found[-1].start() :]
    return "", text


def _write_rows(label: str, boxes: list[tuple[bool, str]]) -> str:
    """Write the rows of a form: the words behind a box may contain the label of the next row."""
    rows: list[str] = []
    options: list[_Option] = []
    for ticked, chunk in boxes:
        answer, next_label = _split_answer(chunk)
        options.append(_Option(ticked, answer.strip(_EDGE)))
        if next_label:
            rows.append(_write_row(label, options))
            label, options = next_label, []
    rows.append(_write_row(label, options))
    return " . ".join(row for row in rows if row)


def _split_answer(chunk: str) -> tuple[str, str]:
    """Split the words behind a box, "no, Pneumothorax:", into the answer and the next row's label."""
    if not chunk.rstrip().endswith(":"):
        return chunk, ""
    words = list(_WORD.finditer(chunk))
    start = 0
    for word in words:
        if word[0].lower() not in _VALUES:
            start = word.start()
            break
    return chunk[:start], chunk[start:]


def _write_row(label: str, options: list[_Option]) -> str:
    """Write one row: the label with its ticked answers, then the findings denied by empty boxes."""
    answers = [option.text for option in options if option.ticked and option.text]
    label = label.strip(_EDGE)
    known = {_last_word(text) for text in (label, *answers)}
    denied = [
        f"no {option.text}"
        for option in options
        if not option.ticked and _names_finding(option.text) and _last_word(option.text) not in known
    ]
    asserted = [": ".join(part for part in (label, ", ".join(answers)) if part)] if answers else []
    return " . ".join([*asserted, *denied])


def _last_word(text: str) -> str:
    words = _WORD.findall(text.lower())
    return words[-1] if words else ""


def _names_finding(text: str) -> bool:
    """Return whether the words of an empty box are more than an answer or a denial."""
    words = _WORD.findall(text.lower())
    return bool(words) and words[0] not in _DENIALS and not all(word in _VALUES for word in words)


ANSWERS = r"(?:yes|no|none|nil|negative|positive|absent|present)"
"""Words that answer a label, as a pattern."""
VALUES = rf"(?:{ANSWERS}|true|false|[01yn])"
"""The same, with the values of tables."""

LIST_MARK = re.compile(r"\(?(?P<number>\d{1,2})[.)](?=\s|[A-Z])|[-*•‣▪]\s")
_SHORT_LINE = 50
_LONGEST_ITEM = 4
_DENIED_LIST = re.compile(
    r"(?:^|\s)(?:no|nil|without|negative for|free of|absence of|(?:evidence|signs?) of)\s?:$"
    r"|^(?:there (?:is|are) )?(?:no|nil|without|negative for|no (?:evidence|signs?) of)$",
    re.IGNORECASE,
)
_FORM_LINE = re.compile(rf"[^:]{{2,60}}: ?{VALUES}[.;,]?$", re.IGNORECASE)
_ROW = re.compile(rf"(?:right|left|rt|lt|r|l)\b(?! \w+ \w+ )|{ANSWERS}[.;,]?$", re.IGNORECASE)


def joined_lines(text: str) -> Iterator[str]:
    """Yield runs of text: wrapped lines joined, and rows of a list or form joined to their head."""
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
        """Return whether a line continues this run."""
        if not self.lines:
            return not line
        if not line:
            return False
        mark = LIST_MARK.match(line)
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
        """Add a line."""
        self._last = line
        if not line:
            return
        if not self.lines:
            short = len(line) < _SHORT_LINE or line.endswith(":")
            self._denies = short and _DENIED_LIST.search(line) is not None
            self._labels = line.endswith(":")
        elif self._denies:
            mark = LIST_MARK.match(line)
            self._marked = mark is not None
            line = (line[mark.end() :] if mark else line).strip(" ,;.")
        elif self._labels and (mark := LIST_MARK.match(line)):
            line = line[mark.end() :].strip()
        self.lines.append(line)

    def text(self) -> str:
        """Return the lines, separated by blanks; the rows below a denial by commas."""
        if self._denies:
            return f"{self.lines[0]} {', '.join(self.lines[1:])}".strip()
        return " ".join(self.lines)


def _is_item(line: str) -> bool:
    """Return whether a line without a mark can be a row of a list: a few words, and no sentence."""
    return line.count(" ") < _LONGEST_ITEM and line[-1] not in ".:"
