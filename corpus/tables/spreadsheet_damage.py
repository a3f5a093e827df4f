"""Numbers that a spreadsheet damaged: detected and reported, never repaired by a guess."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_SCIENTIFIC = re.compile(r"(\d)(?:[.,](\d+)E\+?|E\+)(\d{2,3})", re.IGNORECASE)
_WRAPPED = re.compile(r"""\s*=?["']?(.*?)["']?\s*""")
_FORMATTED = re.compile(r"(\d{1,3}(?:[.,'’\s]\d{3})+|\d+)(?:[.,]0{1,2})?\s*")
_PRECISION = 15  # digits of a number in a spreadsheet


@dataclass(frozen=True, slots=True)
class DamagedNumber:
    """A number of a report that a spreadsheet most likely damaged.

    `written`: as it is in the table.
    `meant`: the number of a study that it most likely was.
    `cause`: the damage, as a clause.
    """

    written: str
    meant: str
    cause: str


def is_rounded(name: str) -> bool:
    """Return whether an id was rounded to a number with an exponent (`2.02001E+13`)."""
    return _SCIENTIFIC.fullmatch(name) is not None


def find_damaged_number(written: Iterable[str], known: Collection[str]) -> DamagedNumber | None:
    """Return the first number that differs from a known one as a spreadsheet would change it, or None.

    Args:
        written: numbers that are not among the known.
        known: correct numbers.
    """
    unpadded: dict[str, str] = {}
    plain: dict[str, str] = {}
    by_size: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name in known:
        unpadded.setdefault(name.lstrip("0"), name)
        plain.setdefault(_plain(name), name)
        if name.isdecimal():
            by_size[len(name.lstrip("0")), name.lstrip("0")[:1]].append(name)
    for name in written:
        cause, other = "", None
        if rounded := _SCIENTIFIC.fullmatch(name):
            lead, rest, size = rounded[1], rounded[2] or "", int(rounded[3]) + 1
            same_size = by_size[size, lead]
            other = next((n for n in same_size if _rounds_to(n, len(rest) + 1, lead + rest)), None)
            cause = "a spreadsheet rounds long numbers"
        elif name.isdecimal() and name.lstrip("0") in unpadded:
            other, cause = unpadded[name.lstrip("0")], "a spreadsheet drops leading zeros"
        elif name.isdecimal() and len(name) > _PRECISION:
            same_size = by_size[len(name), name[0]]
            other = next((n for n in same_size if _rounds_to(n, _PRECISION, name[:_PRECISION])), None)
            cause = f"a spreadsheet keeps {_PRECISION} digits of a number"
        elif (formatted := _FORMATTED.fullmatch(name)) and _digits(formatted[1]) in unpadded:
            other, cause = unpadded[_digits(formatted[1])], "a spreadsheet formats numbers"
        elif name:
            other, cause = plain.get(_plain(name)), "they differ in case, spaces or signs around them"
        if other is not None:
            return DamagedNumber(name, other, cause)
    return None


def _digits(number: str) -> str:
    """Return the digits of a formatted number without leading zeros."""
    return re.sub(r"\D", "", number).lstrip("0")


def _plain(name: str) -> str:
    """Return the letters and digits of a name, without its protection from a spreadsheet (`="0012"`)."""
    match = _WRAPPED.fullmatch(name)
    return re.sub(r"[\W_]+", "", (match[1] if match else name).casefold())


def _rounds_to(name: str, digits: int, shown: str) -> bool:
    """Return whether a number, truncated or rounded to so many digits, shows these."""
    number = name.lstrip("0")
    shortened, rest = number[:digits], number[digits : digits + 1]
    return shown in (shortened, str(int(shortened) + (rest >= "5")))
