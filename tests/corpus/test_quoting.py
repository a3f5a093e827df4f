"""Broken quotes never join two rows: the table is refused by its line, or the rows are set aside."""

import csv
import gzip
import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corpus.errors import CorpusError
from corpus.sources import open_source
from corpus.tables.quotes import find_broken_quote, is_strict
from corpus.tables.reader import read_table

SEPARATORS = [",", ";", "\t", "|"]


def table(folder: Path, rows: str, separator: str = ",", packed: bool = False) -> Path:
    text = rows.replace(",", separator)
    path = folder / ("t.tsv" if separator == "\t" else "t.csv")
    if packed:
        path = path.with_name(f"{path.name}.gz")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('n,report\n1,"no effusion\n2,"pneumothorax"\n3,clear\n', 2),  # a lost closing quote
        ('n,report\n1,clear\n2,"no effusion\n3,clear\n', 3),  # to the end of the file
        ('n,report\n1,clear\n2,"no effusion', 3),
        ('n,report\n1,small effusion"\n2,"clear"\n', 2),  # a lost opening quote
        ('n,report\n1,"he said \\"clear\\" today"\n2,clear\n', 2),  # escaped by a backslash
        ('n,report\n1,"he said \\"clear\\""\n2,"clear"\n', 2),
        ('n,report\n1,clear\n2,"Effusion" is seen\n', 3),  # a cell that begins with a quoted word
        ('n,report\n1,"a "b" c"\n', 2),  # quotes that are not doubled
        ('n,report\n1,"clear" \n', 2),
        ('n,report\n1,tube 6" deep\n2,"clear"\n', 2),
        ('"n,report\n1,clear\n', 1),
        ('\n\nn,report\n1,"clear\n', 4),
        ('n,report\n1,"two\nlines"\n2,"clear\n', 4),
    ],
)
def test_a_table_with_broken_quotes_is_refused_by_its_line(
    tmp_path: Path, rows: str, line: int, separator: str, packed: bool
) -> None:
    with pytest.raises(CorpusError, match=rf"broken quotes.*: line {line} ") as refused:
        read_table(table(tmp_path, rows, separator, packed))
    assert "effusion" not in str(refused.value), "no message holds a report"


@pytest.mark.parametrize("separator", SEPARATORS)
def test_sound_quotes_are_read_as_they_are_meant(tmp_path: Path, separator: str) -> None:
    rows = (
        'n,report,more\r\n1,"FINDINGS: clear.\r\nIMPRESSION: ""normal"".",x\r\n'
        '2,"","""Effusion"" is seen"\r\n3,the "so-called" nodule,\r\n"4","a, b; c\t|","\n"\r\n'
    )
    path = tmp_path / "t.csv"
    cells = list(csv.reader(io.StringIO(rows, newline="")))
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(cells)
    read = [[cell or "" for cell in row] for row in read_table(path).frame.rows()]
    assert read == cells[1:]


def test_quotes_inside_a_plain_cell_stay(tmp_path: Path) -> None:
    path = table(tmp_path, 'n,report\n1,the "so-called" nodule\n2,"a, ""b"""\n')
    assert read_table(path).frame.rows() == [("1", 'the "so-called" nodule'), ("2", 'a, "b"')]


def test_a_loss_that_looks_sound_is_seen_by_the_width_of_its_rows(tmp_path: Path) -> None:
    # A closing quote is lost, and the next opening one closes: its report begins with a line break.
    path = table(tmp_path, 'n,m,report\n1,x,"no effusion\n2,y,"\npneumothorax\n3,z,"clear"\n4,u,"clear"\n')
    read = read_table(path)
    assert [row[0] for row in read.frame.rows()] == ["3", "4"]
    assert [row.number for row in read.bad_rows] == [1, 2]
    assert all("may be joined" in row.reason for row in read.bad_rows)


def test_a_long_row_below_a_cell_of_several_lines_sets_both_aside(tmp_path: Path) -> None:
    read = read_table(table(tmp_path, 'n,report\n1,"a\n2,"\nb,c,d\n3,"clear"\n'))
    assert read.frame.rows() == [("3", "clear")]
    assert [row.number for row in read.bad_rows] == [1, 2]


def test_short_rows_of_plain_cells_are_filled(tmp_path: Path) -> None:
    read = read_table(
        table(tmp_path, 'n,report,view\n1,"two\nlines",pa\n2,clear,\n3,"two\nlines",\n4,clear,ap\n5\n')
    )
    assert [row[0] for row in read.frame.rows()] == ["1", "2", "3", "4", "5"]
    assert not read.bad_rows


def test_studies_of_a_broken_manifest_never_mix(tmp_path: Path) -> None:
    path = table(tmp_path, 'study_id,report\n1,"no effusion\n2,clear\n3,"pneumothorax"\n4,clear\n5,clear\n')
    with pytest.raises(CorpusError, match="line 2"):
        open_source(f"manifest:{path}")


def test_broken_quotes_in_a_table_of_reports_are_refused(tmp_path: Path, make_dicom) -> None:  # type: ignore[no-untyped-def]
    make_dicom(tmp_path / "films" / "a.dcm", AccessionNumber="A1")
    reports = table(tmp_path, 'accession,report\nA1,"no effusion\nA2,"pneumothorax"\n')
    source = open_source(f"dicom:{tmp_path / 'films'}", reports=reports)
    with pytest.raises(CorpusError, match="line 2"):
        list(source.studies(lambda problem: None))


cells = st.text(st.sampled_from('ab"\\ \n\r,;|\té'), max_size=8).filter(
    lambda cell: not cell or bool(cell.strip())  # a cell of spaces alone can be read as an empty one
)
tables = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6)
)


def written(rows: list[list[str]], separator: str, quoting: int) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, quoting=quoting).writerows(  # type: ignore[arg-type]
        [[f"c{position}" for position in range(len(rows[0]))], *rows]
    )
    return text.getvalue()


@given(tables, st.sampled_from(SEPARATORS), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_what_a_csv_writer_writes_is_sound_and_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], separator: str, quoting: int
) -> None:
    # A line of a cell that is a row by itself is taken for one that lost quotes swallowed.
    assume(separator != "\t" or not any(cell.count("\t") > 1 for row in rows for cell in row))
    text = written(rows, separator, quoting)
    assert is_strict(text.encode(), separator)
    assert find_broken_quote(text, separator) is None
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes(f"sep={separator}\n{text}".encode())
    read = [[cell or "" for cell in row] for row in read_table(path).frame.rows()]
    assert read == [[unicodedata.normalize("NFC", cell) for cell in row] for row in rows if any(row)]


@given(tables, st.sampled_from(SEPARATORS), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.data())
def test_a_table_that_lost_one_quote_is_always_refused(
    rows: list[list[str]], separator: str, quoting: int, data: st.DataObject
) -> None:
    text = written(rows, separator, quoting)
    quotes = [at for at, letter in enumerate(text) if letter == '"']
    assume(quotes)
    lost = data.draw(st.sampled_from(quotes))
    broken = text[:lost] + text[lost + 1 :]
    assert not is_strict(broken.encode(), separator)
    assert find_broken_quote(broken, separator) is not None


@given(st.text(st.sampled_from('ab"\n,'), max_size=12))
def test_the_fast_check_and_the_slow_one_agree(text: str) -> None:
    if is_strict(text.encode(), ","):
        assert find_broken_quote(text, ",") is None


@pytest.mark.parametrize("width", [3, 4])
def test_rows_that_two_lost_quotes_put_into_one_cell_are_set_aside(tmp_path: Path, width: int) -> None:
    middle = ["x"] * (width - 2)
    rows = [
        ["a", *middle, '"Clear.'],
        ["b", *middle, "Effusion."],
        ["c", *middle, 'Edema."'],
        ["d", *middle, "No."],
    ]
    header = [f"c{number}" for number in range(width)]
    path = tmp_path / "t.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]))
    read = read_table(path)
    assert read.frame.rows() == [("d", *middle, "No.")]
    assert [(bad.number, "lost quotes" in bad.reason) for bad in read.bad_rows] == [(1, True)]


def test_a_form_with_tabs_in_a_cell_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('a\tb\tc\n1\t2\t"Effusion\tNo\nEdema\tNo"\n')
    assert read_table(path).frame.rows() == [("1", "2", "Effusion\tNo\nEdema\tNo")]
