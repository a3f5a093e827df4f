"""Which lines of a text are read as one: a wrapped line goes on, a row of a form or list belongs to its head.

"no:" above a list denies each of its rows, and "Pleural effusion:" above a box or a side is its label.
"""

import re
from collections.abc import Iterator

from corpus.language.forms import opens_with_box

ANSWERS = r"(?:yes|no|none|nil|negative|positive|absent|present)"
"""Words that answer a label, as a pattern."""
VALUES = rf"(?:{ANSWERS}|true|false|[01yn])"
"""The same, and what a table has in their place."""

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
        """Take a line in."""
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
        """The lines, with a blank between; the rows below a denial with commas."""
        if self._denies:
            return f"{self.lines[0]} {', '.join(self.lines[1:])}".strip()
        return " ".join(self.lines)


def _is_item(line: str) -> bool:
    """Whether a line without a mark can be a row of a list: a few words, and no sentence."""
    return line.count(" ") < _LONGEST_ITEM and line[-1] not in ".:"
