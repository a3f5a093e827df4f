"""A column of dates is read one way, by what all of its rows can be, and never by a guess."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import CorpusError, UsageError
from corpus.records import Problem, Study
from corpus.sources import open_source
from corpus.tables import TableOptions
from corpus.tables.dates import order_of_column, parse_date, parse_date_format

TODAY = date(2026, 7, 1)


def read(folder: Path, dates: list[str], form: str | None = None) -> tuple[list[str | None], list[Problem]]:
    rows = "".join(f'S{number},P{number},Clear.,"{day}"\n' for number, day in enumerate(dates))
    (folder / "m.csv").write_text(f"study_id,subject_id,report,date\n{rows}")
    problems: list[Problem] = []
    source = open_source(f"manifest:{folder / 'm.csv'}", tables=TableOptions(dates=form))
    studies: list[Study] = list(source.studies(problems.append))
    return [study.date for study in studies], problems


@pytest.mark.parametrize(
    "written",
    [
        "2019-12-31", "20191231", "2019/12/31", "2019.12.31", "31.12.2019", "31/12/2019", "31-12-2019",
        "12/31/2019", "31-Dec-19", "31 Dec 2019", "31-DEC-2019", "Dec 31, 2019", "December 31, 2019",
        "December 31st 2019", "31st of December 2019", "Tue, 31 Dec 2019", "2019-Dec-31", "31. Dezember 2019",
        "31 décembre 2019", "31 de diciembre de 2019", "31 december 2019", "31/12/19", "31.12.19", "12/31/19",
        "31/Dec/2019", "2019.12.31.", "31.12.2019.", "2019年12月31日", "2019년 12월 31일", "2019-12-31\u200e",
        "'2019-12-31",
    ],
)  # fmt: skip
def test_every_usual_way_of_writing_a_day_is_read(written: str) -> None:
    assert parse_date(written, today=TODAY) == "2019-12-31"


@pytest.mark.parametrize(
    "written",
    [
        "2019-06-25T23:30:00-05:00", "2019-06-25T23:30:00Z", "2019-06-25 23:30:00+0900", "25/6/2019 23:30",
        "25.06.2019 23:30:00", "6/25/2019 11:30 PM", "20190625233000.000000-0500", "25-Jun-2019 23:30",
        "2019/06/25 23:30:00 UTC", "2019-06-25 23:30:00 PST", "2019-06-25 23:30:00 CEST",
        "2019-06-25 23:30:00 +02", "25.06.2019 23:30 Uhr",
    ],
)  # fmt: skip
def test_a_time_keeps_the_day_it_has_where_it_was_written(written: str) -> None:
    assert parse_date(written, today=TODAY) == "2019-06-25T23:30:00"


@pytest.mark.parametrize(
    ("column", "read_as"),
    [
        (["5/6/2019", "25/6/2019"], ["2019-06-05", "2019-06-25"]),
        (["5/6/2019", "6/25/2019"], ["2019-05-06", "2019-06-25"]),
        (["5.6.2019", "31.12.2019", "2019-01-02"], ["2019-06-05", "2019-12-31", "2019-01-02"]),
        (["5/5/2019", "6/6/2019"], ["2019-05-05", "2019-06-06"]),
        (["05-06-19", "31-12-19"], ["2019-06-05", "2019-12-31"]),
        (["19-06-05", "19-12-31"], ["2019-06-05", "2019-12-31"]),
        (["5/6/2019 08:15", "25/6/2019 08:15"], ["2019-06-05T08:15:00", "2019-06-25T08:15:00"]),
        (["2019-06-05", ""], ["2019-06-05", None]),
    ],
)
def test_the_column_decides_the_order(tmp_path: Path, column: list[str], read_as: list[str | None]) -> None:
    assert read(tmp_path, column) == (read_as, [])


@pytest.mark.parametrize("column", [["5/6/2019"], ["5.6.2019", "7.8.2019", "25 June 2019"], ["05-06-07"]])
def test_a_column_that_can_be_read_in_two_ways_is_refused(tmp_path: Path, column: list[str]) -> None:
    with pytest.raises(CorpusError, match=r"ambiguous: .*--day-first, --month-first or --date-format"):
        read(tmp_path, column)


@pytest.mark.parametrize(
    ("form", "first"),
    [("day_first", "2019-06-05"), ("month_first", "2019-05-06"), ("%m/%d/%Y", "2019-05-06")],
)
def test_whoever_knows_the_table_says_the_order(tmp_path: Path, form: str, first: str) -> None:
    assert read(tmp_path, ["5/6/2019"], form) == ([first], [])


def test_a_date_outside_the_stated_format_is_recorded_and_not_turned(tmp_path: Path) -> None:
    days, problems = read(tmp_path, ["5/6/2019", "5/25/2019"], "day_first")
    assert days == ["2019-06-05", None]
    assert [problem.item_id for problem in problems] == ["manifest:S1#date"]


@pytest.mark.parametrize(
    "column",
    [
        ["25/6/2019", "6/25/2019"],
        ["13/5/2019", "5/13/2019", "5/6/2019"],
        ["5/6/2019", "25/6/2019", "6/25/2019"],
    ],
)
def test_a_column_that_contradicts_itself_is_refused_naming_two_of_its_dates(
    tmp_path: Path, column: list[str]
) -> None:
    with pytest.raises(CorpusError, match=r"both '\d+/\d/2019' and '\d/\d+/2019'.*--day-first") as caught:
        read(tmp_path, column)
    assert "\n" not in str(caught.value)
    days, problems = read(tmp_path, column, "day_first")
    assert days.count(None) == len(problems) == 1


def test_serial_numbers_of_a_spreadsheet_are_read_where_the_format_is_stated(tmp_path: Path) -> None:
    days, problems = read(tmp_path, ["43621", "31-Dec-19"])
    assert days == [None, "2019-12-31"]
    assert "--date-format excel" in problems[0].reason
    assert read(tmp_path, ["43621", "43621.25", "31-Dec-19"], "excel")[0] == [
        "2019-06-05",
        "2019-06-05T06:00:00",
        "2019-12-31",
    ]


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("1-Jul-26", "2026-07-01"),
        ("2-Jul-26", "1926-07-02"),
        ("31-Dec-65", "1965-12-31"),
        ("5/5/65", "1965-05-05"),
    ],
)
def test_a_year_of_two_digits_is_the_last_that_is_not_ahead(written: str, iso: str) -> None:
    assert parse_date(written, today=TODAY) == iso


def test_a_column_without_dates_of_numbers_decides_nothing() -> None:
    assert order_of_column(["2019-06-05", None, "June 5, 2019", "soon", date(2019, 6, 5)]) is None


@given(st.dates(date(1900, 1, 1), date(2200, 1, 1)), st.sampled_from("/.- "))
def test_a_day_is_read_back_in_the_order_it_was_written_in(day: date, sign: str) -> None:
    assert parse_date(f"{day.day}{sign}{day.month}{sign}{day.year}", "day_first") == day.isoformat()
    assert parse_date(f"{day.month:02}{sign}{day.day:02}{sign}{day.year}", "month_first") == day.isoformat()


@pytest.mark.parametrize("form", ["excel", "day_first", "%d.%m.%Y", "%Y%m%d", "%d %b %y"])
def test_a_format_with_a_whole_day_is_known(form: str) -> None:
    assert parse_date_format(form) == form


@pytest.mark.parametrize("form", ["", "dd/mm/yyyy", "%m/%Y", "%Q"])
def test_a_format_without_a_whole_day_is_refused(form: str) -> None:
    with pytest.raises(UsageError, match="no date format"):
        parse_date_format(form)
