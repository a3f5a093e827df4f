"""Ticks and signs of a form, as the sentence they stand for.

"Pleural effusion: [x] present [ ] absent" becomes "Pleural effusion: present", "Effusion (-)" becomes
"Effusion: absent". What is ticked is said of the label before it. What has an empty box is not said; where it
names a finding beside a ticked one ("[x] Effusion [ ] Pneumothorax") it is denied. A row whose boxes are all
empty denies what they name too: whether anybody filled the form in is seen only in the whole of it
(`is_blank`), and a form of empty boxes alone is not read at all.

The text as written is what is stored and shown; only the labeler reads it so. Time grows with its length.
"""

import re
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
"""One of these stands in nearly every form: looked for first, since most sentences have none."""
_OFFERED = re.compile(
    r"(?:[,(\[] ?| )(?:yes ?(?:/|or) ?no|y ?/ ?n) ?[)\]]? ?[:?=]{0,2} ?(?=(?:yes|no|none|y|n)\b)",
    re.IGNORECASE,
)
"""The answers that may be given, before the one that is: "Effusion (yes/no): no"."""
_LETTER = re.compile(r"(?<=[^\W\d_]) ?[(\[] ?(?:(?P<no>[nN])|[yY]) ?[)\]]")
_SIGNED_ITEM = re.compile(
    r"(?:^|(?<=[,;.])|(?<=[,;.] ))(?P<sign>[-−–+]) ?(?=[^\W\d_])(?!ve\b)"
    r"|(?<= )(?P<glued>[-−–+])(?=[^\W\d_])(?!ve\b)"
)
"""What opens an item of a list: a sign, which a blank may follow only behind a stop or a comma."""

_SIGN = re.compile(r"[(\[] ?(?P<sign>[-−–]|\+) ?[)\]]")
_EITHER_SIGN = re.compile(r"[(\[] ?(?:\+ ?/ ?[-−–]|[-−–] ?/ ?\+) ?[)\]]")
_LETTERED = ((re.compile(r"[-−–]ve\b"), "negative"), (re.compile(r"\+ve\b"), "positive"))
_ALONE = re.compile(r"(?<=[:=]) ?(?P<sign>[-−–]{1,3}|\+{1,3})(?= ?(?:[,;.]|/ ?[^\W\d_]|$))")
_SAID = {"-": "absent", "+": "present"}

_FOREIGN_NO = re.compile(
    r"(?<=:) ?(?:[Nn]e|[Ee]i|(?i:non|nej|nei|nee|nein|nie|n[ãa]o|nem|nincs|ikke|inte|keiner?|geen|"
    r"aucune?|нет|не|ні|няма|нема|yok|hayır|όχι))(?= ?(?:[,;.\n]|$))"
)
"""The commonest words for no, behind a label that English has too: "Pneumothorax: non" is no finding."""

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
    """Whether a text has empty boxes and none that is ticked: a form that nobody filled in."""
    return _EMPTY_BOX.search(text) is not None and _TICKED_BOX.search(text) is None


def opens_with_box(line: str) -> bool:
    """Whether a line begins with a box, or with a cross."""
    return _BOX.match(line) is not None or line[:1] in tuple(_CROSS)


def has_signed_items(text: str) -> bool:
    """Whether the items of a list have signs, and one of them a plus: "+ effusion, - pneumothorax"."""
    return "+" in text and any((m["sign"] or m["glued"]) == "+" for m in _SIGNED_ITEM.finditer(text))


def has_box(text: str) -> bool:
    """Whether a text has a box, ticked or empty."""
    return _BOX.search(text) is not None


def fill_form(text: str) -> str:
    """Return the text with the sentence that its ticks and signs stand for; without any, as it is."""
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
    text = _ALONE.sub(lambda m: f" {_said(m)}.", text.replace("=", ":"))
    return _fill_boxes(_empty_crosses(_spell_signs(text)))


def _empty_crosses(text: str) -> str:
    """Make empty boxes of crosses, which are a no by themselves, and of rings beside dots."""
    if "●" in text and "○" in text:
        text = text.replace("●", "☑").replace("○", "☐")
    text = _BARE_CROSS.sub("☐", text)
    return _BOXED_CROSS.sub("☐", text) if _CHECK.search(text) else text


def _said(sign: re.Match[str]) -> str:
    return _SAID["+" if sign["sign"][0] == "+" else "-"]


def _spell_signs(text: str) -> str:
    """Write "(-)" and "(+)" out: before what they speak of where one opens the text, else behind it."""
    first = _SIGN.search(text)
    if first is None:
        return text
    opening = text[: first.start()].rstrip()
    if opening and opening[-1] not in ":,;.":
        return _SIGN.sub(lambda m: f": {_said(m)}.", text)
    return _SIGN.sub(lambda m: ". " if m["sign"] == "+" else ". no ", text)


def _fill_boxes(text: str) -> str:
    """Write out what is ticked, row by row of one text."""
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
        head, first = _part_label(head)
        return _write_rows(head, list(zip(ticked, [first, *chunks[1:-1]], strict=True)))
    return _write_rows(head, list(zip(ticked, chunks[1:], strict=True)))


def _part_label(text: str) -> tuple[str, str]:
    """Part "Effusion: present" or "Effusion yes", before its box, into label and answer."""
    label, colon, answer = text.rpartition(":")
    if colon:
        return label + colon, answer
    found = list(_WORD.finditer(text))
    if len(found) > 1 and found[-1][0].lower() in _VALUES:
        return text[: found[-1].start()], text[found[-1].start() :]
    return "", text


def _write_rows(label: str, boxes: list[tuple[bool, str]]) -> str:
    """Write the rows of a form: the words behind a box may hold the label of the next row."""
    rows: list[str] = []
    options: list[_Option] = []
    for ticked, chunk in boxes:
        answer, next_label = _part_answer(chunk)
        options.append(_Option(ticked, answer.strip(_EDGE)))
        if next_label:
            rows.append(_write_row(label, options))
            label, options = next_label, []
    rows.append(_write_row(label, options))
    return " . ".join(row for row in rows if row)


def _part_answer(chunk: str) -> tuple[str, str]:
    """Part the words behind a box, "no, Pneumothorax:", into the answer and the next row's label."""
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
    """Write one row: the label with what is ticked, then what is denied by an empty box."""
    said = [option.text for option in options if option.ticked and option.text]
    label = label.strip(_EDGE)
    known = {_last_word(text) for text in (label, *said)}
    denied = [
        f"no {option.text}"
        for option in options
        if not option.ticked and _names_something(option.text) and _last_word(option.text) not in known
    ]
    asserted = [": ".join(part for part in (label, ", ".join(said)) if part)] if said else []
    return " . ".join([*asserted, *denied])


def _last_word(text: str) -> str:
    words = _WORD.findall(text.lower())
    return words[-1] if words else ""


def _names_something(text: str) -> bool:
    """Whether the words of an empty box are more than an answer or a denial."""
    words = _WORD.findall(text.lower())
    return bool(words) and words[0] not in _DENIALS and not all(word in _VALUES for word in words)
