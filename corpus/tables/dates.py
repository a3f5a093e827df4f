"""Dates in tables, interpreted in one way for a whole column, and never by a guess.

`5/6/2019` is a day in May or in June. The other rows of the column decide: `25/6/2019` makes it day first.
Where every row is ambiguous, the user has to state the format.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Final, Literal, get_args

from corpus.errors import UsageError

DateOrder = Literal["day_first", "month_first", "year_first"]

EXCEL: Final = "excel"
"""A separate format: the serial numbers of a spreadsheet, days since 30 December 1899."""

_ORDERS: tuple[DateOrder, ...] = get_args(DateOrder)
_EARLIEST_YEAR = 1895  # the first radiograph
_EXCEL_ORIGIN = datetime(1899, 12, 30)
_UNKNOWN = frozenset(
    {"", "u", "unknown", "na", "nan", "nat", "none", "null", "n/a", "?", "00000000", "0000-00-00"}
)

# January to December in English, German, French, Spanish and Dutch, whole and abbreviated, without accents.
_MONTH_NAMES = (
    "january januar janvier enero januari jan janv ene",
    "february februar fevrier febrero februari feb fev fevr",
    "march marz maerz mars marzo maart mar mrz mrt",
    "april avril abril apr avr abr",
    "may mai mayo mei",
    "june juni juin junio jun",
    "july juli juillet julio jul juil",
    "august aout agosto augustus aug ago",
    "september septembre septiembre setiembre sep sept",
    "october oktober octobre octubre oct okt",
    "november novembre noviembre nov",
    "december dezember decembre diciembre dec dez dic",
)
_MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, 1) for name in names.split()}
_UNACCENTED = str.maketrans("äéèûô", "aeeuo")

_WITH_TIME = re.compile(
    r"(?P<day>.+?)(?:[T,]\s*|\s+)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?"
    r"\s*(?P<half>[ap]\.?m\.?)?\s*(?:[a-z]{1,5}|[+-]\d{2}(?::?\d{2})?)?",
    re.IGNORECASE,
)
_DICOM_DT = re.compile(r"(\d{8})(\d{2})(\d{2})(\d{2})?(?:\.\d+)?(?:[+-]\d{4})?")
_YEAR_FIRST = re.compile(r"(\d{4})([-/. ])(\d{1,2})\2(\d{1,2})")
_NUMBERS = re.compile(r"(\d{1,2})([-/. ]) ?(\d{1,2})\2 ?(\d{4}|\d{2})")
_DAY_NAME = re.compile(
    r"(\d{1,2})(?:st|nd|rd|th|er|\.)?[-/ ]*(?:of |de )?([^\W\d_]{3,10})\.?,?[-/ ]*(?:de )?(\d{4}|\d{2})"
)
_NAME_DAY = re.compile(r"([^\W\d_]{3,10})\.?[- ]*(\d{1,2})(?:st|nd|rd|th)?(?:, ?|[- ])(\d{4}|\d{2})")
_YEAR_NAME = re.compile(r"(\d{4})[- ]([^\W\d_]{3,10})[- ](\d{1,2})")
_WEEKDAY = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? +", re.IGNORECASE)
_NO_DAY = re.compile(r"\d{4}(?:[-/]\d{1,2})?|\d{1,2}[/.]\d{4}|[^\W\d_]+ (?:\d{4}|\d{1,2})")
_EAST_ASIAN = re.compile(r"(\d{4})[年년] ?(\d{1,2})[月월] ?(\d{1,2})[日일]")
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SERIAL = re.compile(r"[1-9]\d{4}(?:[.,]\d+)?")


def parse_date_format(text: str) -> str:
    """Return a valid date format: `excel`, an order, or a pattern of `strptime` with a whole day.

    Raises:
        UsageError: it is none.
    """
    probe = datetime(2019, 12, 31)
    if text == EXCEL or text in _ORDERS:
        return text
    try:
        if datetime.strptime(probe.strftime(text), text).date() == probe.date():
            return text
    except ValueError:
        pass
    raise UsageError(f"{text[:40]!r} is no date format: write excel, or day, month and year as in '%d/%m/%Y'")


def order_of_column(column: Iterable[str | date | None]) -> DateOrder | None:
    """Return the order of day, month and year of a whole column.

    Returns:
        The one order that fits every numeric date; None where there is none.

    Raises:
        ValueError: several orders fit all of them with different days, or none fits all; the message quotes
            one, or two that contradict each other.
    """
    numeric = [read for value in column if (read := _orders_of(value))]
    fitting = [order for order in _ORDERS if all(order in readings for _, readings in numeric)]
    if not numeric:
        return None
    if not fitting:
        one, other = _contradicting(numeric)
        raise ValueError(f"no order fits both {one[:20]!r} and {other[:20]!r}")
    for text, days in numeric:
        if len({days[order] for order in fitting}) > 1:
            raise ValueError(f"{text[:20]!r} and every other of them can be read in more than one order")
    return fitting[0]


def _contradicting(numeric: Sequence[tuple[str, Mapping[DateOrder, date]]]) -> tuple[str, str]:
    """Return the first date that rules out all remaining orders, and an earlier one that it contradicts."""
    fitting = set(_ORDERS)
    for text, readings in numeric:
        left = fitting & set(readings)
        if not left:
            return next(
                before for before, others in numeric if not set(others) & set(readings) & fitting
            ), text
        fitting = left
    raise AssertionError("an order fits all")


def _orders_of(value: str | date | None) -> tuple[str, Mapping[DateOrder, date]] | None:
    """Return the text and its readings, for a date of three numbers in an unknown order; else None."""
    if value is None or isinstance(value, date):
        return None
    day, _ = _split_time(_tidied(value))
    match = _NUMBERS.fullmatch(day)
    readings = None if match is None else _numeric(match, date.today())
    return (day, readings) if readings else None


def parse_date(
    written: str | date | None, form: str | None = None, *, today: date | None = None
) -> str | None:
    """Return a day (and its time, where written) in ISO 8601, or None where none is written.

    A time stays local: its zone is dropped. A year or a month alone is no day and gives None; `year_of` reads
    it. A year of two digits is the latest that is not in the future.

    Args:
        written: the date.
        form: an order (of `DateOrder`), `EXCEL` or a pattern of `strptime`; None reads what is unambiguous.
        today: the day of reading, for years of two digits.

    Raises:
        ValueError: it is no date, is ambiguous, or is before radiography; the message quotes it.
    """
    if isinstance(written, datetime):
        return written.replace(tzinfo=None).isoformat()
    if isinstance(written, date):
        return written.isoformat()
    text = "" if written is None else _tidied(str(written))
    if text.lower() in _UNKNOWN:
        return None
    moment = _moment(text, form, today or date.today())
    if moment is None:
        if _NO_DAY.fullmatch(text):
            return None
        if _SERIAL.fullmatch(text):
            raise ValueError(f"the date {text[:30]!r} is a spreadsheet's serial number (--date-format excel)")
        raise ValueError(f"the date {text[:30]!r} is none (write YYYY-MM-DD)")
    if moment.year < _EARLIEST_YEAR:
        raise ValueError(f"the date {text[:30]!r} is before radiography")
    return moment.isoformat()


def _tidied(text: str) -> str:
    """Return a date without invisible characters, a spreadsheet's apostrophe and a closing full stop."""
    text = _EAST_ASIAN.sub(r"\1-\2-\3", _INVISIBLE.sub("", text)).strip().removeprefix("'")
    return text.removesuffix(".") if re.search(r"[\d.]\d{2}\.$", text) else text


def year_of(written: str | None) -> int | None:
    """Return the year of a date, also where it has no day (`2020`, `March 2003`, `2003-03`)."""
    match = re.search(r"(?<!\d)(?:18[99]\d|19\d\d|20\d\d)(?!\d)", written or "")
    return int(match[0]) if match else None


def _moment(text: str, form: str | None, today: date) -> date | None:
    """Return the day, or the day and time, of a text; None where it is no date of that form."""
    if form == EXCEL and _SERIAL.fullmatch(text):
        moment = _EXCEL_ORIGIN + timedelta(days=float(text.replace(",", ".")))
        return moment.replace(microsecond=0) if moment.time() != time.min else moment.date()
    if form is not None and form != EXCEL and form not in _ORDERS:
        return _by_pattern(text, form)
    try:
        moment = datetime.fromisoformat(text).replace(tzinfo=None)
        return moment if re.search(r"\d[T ]\d{2}", text) else moment.date()
    except ValueError:
        pass
    dicom = _DICOM_DT.fullmatch(text)
    day_text, clock = _split_time(
        f"{dicom[1]} {dicom[2]}:{dicom[3]}:{dicom[4] or '00'}" if dicom else _WEEKDAY.sub("", text, count=1)
    )
    day = _day(day_text, form, today)
    return day if day is None or clock is None else datetime.combine(day, clock)


def _by_pattern(text: str, pattern: str) -> date | None:
    try:
        moment = datetime.strptime(text, pattern).replace(tzinfo=None)
    except ValueError:
        return None
    return moment if any(sign in pattern for sign in ("%H", "%I", "%X", "%T", "%c")) else moment.date()


def _split_time(text: str) -> tuple[str, time | None]:
    """Return the day part of a text, and the time of day where one follows."""
    match = _WITH_TIME.fullmatch(text)
    if match is None:
        return text, None
    hour = int(match["hour"])
    if match["half"]:
        hour = hour % 12 + (12 if match["half"][0] in "pP" else 0)
    try:
        return match["day"].rstrip(" ,"), time(hour, int(match["minute"]), int(match["second"] or 0))
    except ValueError:
        return text, None


def _day(text: str, form: str | None, today: date) -> date | None:
    if match := re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text) or _YEAR_FIRST.fullmatch(text):
        year, *_, month, day = match.groups()
        return _date(int(year), int(month), int(day))
    if match := _NUMBERS.fullmatch(text):
        readings = _numeric(match, today)
        days = set(readings.values()) if form not in _ORDERS else {readings[o] for o in readings if o == form}
        if len(days) > 1:
            raise ValueError(f"the date {text!r} can be read in more than one order")
        return days.pop() if days else None
    if match := _DAY_NAME.fullmatch(text):
        day, name, year = match.groups()
    elif match := _NAME_DAY.fullmatch(text):
        name, day, year = match.groups()
    elif match := _YEAR_NAME.fullmatch(text):
        year, name, day = match.groups()
    else:
        return None
    month_number = _MONTHS.get(name.lower().translate(_UNACCENTED))
    if month_number is None:
        return None
    return _with_year(year, month_number, int(day), today)


def _numeric(match: re.Match[str], today: date) -> dict[DateOrder, date]:
    """Return the days that three numbers can stand for, by order.

    A year of two digits up to 31 in the future is no year, but a day.
    """
    one, _, two, three = match.groups()
    read: dict[DateOrder, date | None] = {
        "day_first": _with_year(three, int(two), int(one), today),
        "month_first": _with_year(three, int(one), int(two), today),
    }
    if len(three) == 2 and len(one) == 2 and match[2] != "/":
        read["year_first"] = _with_year(one, int(two), int(three), today)
    years = {"day_first": three, "month_first": three, "year_first": one}
    return {
        order: day
        for order, day in read.items()
        if day is not None and (len(years[order]) == 4 or int(years[order]) > 31 or day.year >= 2000)
    }


def _with_year(year: str, month: int, day: int, today: date) -> date | None:
    if len(year) == 4:
        return _date(int(year), month, day)
    recent = _date(2000 + int(year), month, day)
    return recent if recent is not None and recent <= today else _date(1900 + int(year), month, day)


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
