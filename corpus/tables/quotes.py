"""The quotes of a CSV table, checked against RFC 4180, so that no two rows are ever joined.

A quoted cell begins with a quote right after a separator or a line's beginning and ends with a quote right
before a separator, a line's end or the end of the file; each quote inside it is doubled. A cell that begins
with anything else may have quotes as they are, provided that their number is even (`the "so-called" nodule`):
an odd one means that a quote was lost. So a table from which a single quote was lost is never sound, because
the number of its quotes is odd.
"""

import re
from dataclasses import dataclass

import numpy as np

_LINE_ENDS = ("\n", "\r")
_QUOTED = re.compile(r'"(?:[^"]++|"")*+"')


@dataclass(frozen=True, slots=True)
class BrokenQuote:
    """The first fault of a table's quotes.

    `at`: index of the character where the faulty cell begins or goes wrong.
    `reason`: a clause for the message.
    """

    at: int
    reason: str


def is_strict(content: bytes, separator: str) -> bool:
    """Return whether every quote opens a cell, closes one or is doubled inside one, without a loop.

    Args:
        content: the table, in UTF-8.
        separator: one ASCII character.
    """
    signs = np.frombuffer(content, np.uint8)
    quotes = np.flatnonzero(signs == ord('"'))
    if quotes.size == 0:
        return True
    if quotes.size % 2:
        return False
    bounds = [ord(end) for end in (separator, *_LINE_ENDS)]
    # In a sound table the quotes open and close in turn; a doubled one closes and opens again at once.
    opening, closing = quotes[::2], quotes[1::2]
    doubled = closing[:-1] + 1 == opening[1:]
    before = np.isin(signs[np.maximum(opening - 1, 0)], bounds) | (opening == 0)
    after = np.isin(signs[np.minimum(closing + 1, signs.size - 1)], bounds) | (closing == signs.size - 1)
    before[1:] |= doubled
    after[:-1] |= doubled
    return bool(before.all() and after.all())


def find_broken_quote(text: str, separator: str) -> BrokenQuote | None:
    """Return the first fault of a table's quotes, or None where each can be read in one way only.

    Args:
        text: the whole table.
        separator: one character.
    """
    ends = (separator, *_LINE_ENDS)
    cell_end = re.compile("|".join(map(re.escape, ends)))
    at = 0
    while (quote := text.find('"', at)) >= 0:
        if quote == 0 or text[quote - 1] in ends:
            cell = _QUOTED.match(text, quote)
            if cell is None:
                return BrokenQuote(quote, "opens a quoted cell that nothing closes")
            at = cell.end()
            if at < len(text) and text[at] not in ends:
                return BrokenQuote(quote, _why_open(text, quote, at))
        else:
            end = cell_end.search(text, quote)
            at = len(text) if end is None else end.start()
            if text.count('"', quote, at) % 2:
                return BrokenQuote(quote, "has a quote inside a cell that does not begin with one")
    return None


def _why_open(text: str, start: int, end: int) -> str:
    """Return the most likely reason why a quoted cell ends inside a cell, as a clause."""
    if text[end - 2] == "\\" and end - 2 > start:
        return "has a quote escaped by a backslash"
    if "\n" in text[start:end]:
        return "opens a quoted cell that a quote inside a later line closes: one is lost or not doubled"
    return "has a quoted cell with text after its closing quote"


def line_of(text: str, at: int) -> int:
    """Return the number of the line with the character `at`; the first line is 1."""
    return text.count("\n", 0, at) + 1
