"""Tables: CSV in any usual encoding and separator, Parquet, JSON lines, also gzipped.

Everything from a CSV is text; empty cells are null. A row that does not fit its header is set aside with its
reason, and the rest of the table is read. A table with broken quotes is refused: its rows could be joined.
All text is in Unicode's composed form (NFC), so that equal names compare equal however they were typed.
"""

import csv
import difflib
import gzip
import io
import itertools
import json
import re
import unicodedata
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from corpus.errors import CorpusError
from corpus.files import UnreadableFile, quoted, read_bytes
from corpus.notices import Notice
from corpus.redaction import redacted
from corpus.tables import DEFAULT, TableOptions
from corpus.tables.encodings import decode
from corpus.tables.quotes import find_broken_quote, is_strict, line_of

_NAMELESS = "\0nameless "
_SEPARATORS = ",;\t|"
_HEADER_SHOWN = 12  # columns of an unfamiliar table that a message lists
_LARGEST_UNPACKED = 2 << 30  # bytes; the largest published table has a tenth of it
_LARGEST_CELL = (1 << 31) - 1  # characters; the csv module's default of 131,072 is below a long report
_SEPARATOR_LINE = re.compile(r'"?sep=([\t !#-/:-@\[-`{-~])\1*"?\r?(?:\n|$)', re.IGNORECASE)  # of Excel


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was set aside: its number (the first row below the header is 1) and the reason."""

    number: int
    reason: str


@redacted
@dataclass(frozen=True, slots=True)
class Table:
    """A table's rows and those that were set aside.

    `path`: the file.
    `frame`: the rows.
    `bad_rows`: the rows set aside.
    `stray_lines`: lines (from 1) with bytes that do not fit the table's encoding; they are in the rows, with
    each such byte read as Windows-1252.
    `own_names`: the file's name of each renamed column.
    """

    path: Path
    frame: pl.DataFrame
    bad_rows: tuple[BadRow, ...] = ()
    stray_lines: tuple[int, ...] = ()
    own_names: Mapping[str, str] = field(default_factory=dict)

    def shown_columns(self) -> str:
        """Return the first columns under the file's own names, for a message."""
        names = [self.own_names.get(name, name) for name in self.frame.columns]
        return ", ".join(names[:_HEADER_SHOWN]) + (", …" if len(names) > _HEADER_SHOWN else "")


def read_table(
    path: Path,
    *,
    required: Iterable[str] = (),
    wanted: Iterable[str] | None = None,
    options: TableOptions = DEFAULT,
) -> Table:
    """Read a table by its extension: .csv, .tsv, .txt (text), .parquet, .jsonl or .ndjson.

    A further `.gz` is unpacked in memory.

    Args:
        path: the table.
        required: columns it must have.
        wanted: return only these columns, as far as they exist; None returns all.
        options: its encoding where it is known, and the receiver of notices.

    Raises:
        CorpusError: it cannot be read, is empty, has broken quotes (the message names the line), a column
            twice, or lacks a required one (the message gives the nearest that it has).
    """
    try:
        content = read_bytes(path)
    except UnreadableFile as reason:
        raise CorpusError(f"the table {quoted(path)} {reason}") from reason
    suffix = path.suffix.lower()
    if suffix == ".gz":
        content, suffix = _unpack(path, content), Path(path.stem).suffix.lower()
    try:
        match suffix:
            case ".parquet":
                table = Table(path, _composed(pl.read_parquet(io.BytesIO(content))))
            case ".jsonl" | ".ndjson" | ".csv" | ".tsv" | ".txt" | "":
                table = _read_text_table(path, content, suffix, options)
            case other:
                raise CorpusError(
                    f"the table {quoted(path)} is {other}: .csv, .parquet and .jsonl are read; convert it"
                )
    except (pl.exceptions.PolarsError, csv.Error) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(f"the table {quoted(path)} cannot be read: {why}") from error
    require_columns(table, required)
    if wanted is None:
        return table
    present = [name for name in wanted if name in table.frame.columns]
    return replace(table, frame=table.frame.select(present))


def _read_text_table(path: Path, content: bytes, suffix: str, options: TableOptions) -> Table:
    decoded = decode(content, options.encoding)
    if decoded.encoding != "utf-8" and options.encoding is None:
        reason = f"it is read as {decoded.encoding_name}, found by its bytes: --encoding names another"
        options.on_notice(Notice("encoding", path.name, reason))
    text = decoded.text.replace("\0", "")  # what a crash or an old database leaves between letters
    if suffix in (".jsonl", ".ndjson"):
        table = _read_json_lines(path, text)
        frame = _composed(table.frame)  # ASCII, too, can spell any letter there
    else:
        # Excel for Macintosh once ended its lines with a carriage return alone.
        table = _read_csv(path, text if "\n" in text else text.replace("\r", "\n"))
        frame = table.frame if unicodedata.is_normalized("NFC", text) else _composed(table.frame)
    return replace(table, frame=frame, stray_lines=decoded.stray_lines)


def _composed(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its names and texts in NFC."""
    frame = frame.rename({name: unicodedata.normalize("NFC", name) for name in frame.columns})
    return frame.with_columns(pl.col(pl.String).str.normalize("NFC"))


def _unpack(path: Path, content: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as packed:
            unpacked = packed.read(_LARGEST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(
            f"the table {quoted(path)} is no whole gzip file: copy it again from where it came"
        ) from error
    if len(unpacked) > _LARGEST_UNPACKED:
        raise CorpusError(f"the table {quoted(path)} unpacks to more than {_LARGEST_UNPACKED >> 30} GiB")
    return unpacked


def read_text(path: Path, options: TableOptions = DEFAULT) -> str:
    """Read a text file in any usual encoding; see `corpus.tables.encodings.decode`.

    Raises:
        UnreadableFile: it does not exist, is empty, not a file, not permitted, …
    """
    decoded = decode(read_bytes(path), options.encoding)
    if decoded.encoding != "utf-8" and options.encoding is None:
        # One notice for all files: a folder can have a hundred thousand reports.
        reason = f"some are read as {decoded.encoding_name}, found by their bytes: --encoding names another"
        options.on_notice(Notice("encoding", "text files", reason))
    return decoded.text


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known name closest to `name`, or nothing where none is close."""
    lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    close = close or [k for k in lower if len(name) > 2 and k.startswith(name.lower())][:1]
    return f" (did you mean {lower[close[0]]!r}?)" if close else ""


def _read_csv(path: Path, text: str) -> Table:
    csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_CELL))
    body = text.lstrip("\r\n")
    named = _SEPARATOR_LINE.match(body)
    if named is not None:
        body = body[named.end() :].lstrip("\r\n")
    separator = _separator(body) if named is None else _named_separator(body, named[1])
    content = body.encode()
    sound = is_strict(content, separator)
    if not sound:
        _refuse_broken_quotes(path, body, separator, text.count("\n", 0, len(text) - len(body)))
    header = [name.strip() for name in next(csv.reader(io.StringIO(body), delimiter=separator), [])]
    if not any(header):
        raise CorpusError(f"the table {quoted(path)} has no header: its first line must name the columns")
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise CorpusError(f"the table {quoted(path)} has the column {twice!r} twice: rename one")
    # Columns without a name are not read: many tables end their header with a separator.
    names = [name or f"{_NAMELESS}{number}" for number, name in enumerate(header, 1)]
    frame = _read_at_once(content, separator, names) if sound else None
    return _read_rows_one_by_one(path, body, separator, names) if frame is None else Table(path, frame)


def _refuse_broken_quotes(path: Path, text: str, separator: str, lines_above: int) -> None:
    broken = find_broken_quote(text, separator)
    if broken is not None:
        line = line_of(text, broken.at) + lines_above
        raise CorpusError(
            f"the table {quoted(path)} has broken quotes, and its rows could be joined: line {line} "
            f'{broken.reason}. Close each quoted cell, write a quote inside one twice (""), and read it again'
        )


def _read_at_once(content: bytes, separator: str, names: list[str]) -> pl.DataFrame | None:
    """Read a table quickly if all its rows certainly have the header's width, else return None."""
    try:
        frame = pl.read_csv(content, separator=separator, has_header=False, infer_schema=False)
    except (pl.exceptions.PolarsError, ValueError):
        return None
    # polars fills short rows and would cut long ones: the widest row decides which way is safe.
    if frame.width != len(names) and any(s.null_count() < frame.height for s in frame[:, len(names) :]):
        return None
    frame = frame[1:, : len(names)]
    frame = frame.rename(dict(zip(frame.columns, names, strict=True)))
    if _may_be_joined(frame) or _contains_row(frame, separator):
        return None
    return _named(frame)


def _may_be_joined(frame: pl.DataFrame) -> bool:
    """Return whether a row with an empty end, which can be a short one, follows a cell of several lines."""
    if frame.width < 2 or not frame.height:
        return False
    many_lined = frame.select(pl.any_horizontal(pl.all().str.contains("\n", literal=True))).to_series()
    short = frame.to_series(frame.width - 1).is_null()
    return bool((many_lined.shift(1, fill_value=False).fill_null(False) & short).any())


def _contains_row(frame: pl.DataFrame, separator: str) -> bool:
    """Return whether a cell may contain a whole row; see `_row_pattern`."""
    pattern = _row_pattern(separator, frame.width)
    return pattern is not None and bool(
        frame.select(pl.any_horizontal(pl.all().str.contains(pattern)).any()).item()
    )


def _row_pattern(separator: str, width: int) -> str | None:
    """Return a pattern of a line in a cell that is as wide as the table: two lost quotes joined several rows.

    Tabs are rare in a text; any other separator is common, and so is one tab a line.
    """
    if separator != "\t" or width < 3:
        return None
    return rf"\n[^\t\n]+(?:\t[^\t\n]*){{{width - 2}}}\t[^\t\n]+(?:\n|$)"


def _read_rows_one_by_one(path: Path, text: str, separator: str, names: list[str]) -> Table:
    """Read a table with rows of a wrong width, and check each row by itself."""
    good: dict[int, list[str | None]] = {}
    bad: dict[int, str] = {}
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    row_pattern = _row_pattern(separator, len(names))
    many_lined = 0  # the last row that has a line break in a cell
    for number, row in enumerate(itertools.islice(rows, 1, None), 1):
        cells = [cell if cell.strip() else None for cell in row]
        while len(cells) > len(names) and cells[-1] is None:
            cells.pop()
        if len(cells) > len(names):
            bad[number] = f"has {len(cells)} cells under {len(names)} columns"
        elif row_pattern is not None and any(re.search(row_pattern, cell) for cell in row):
            bad[number] = _CONTAINS_ROW
        elif any(cells):
            good[number] = cells + [None] * (len(names) - len(cells))
        if (number in bad or (number in good and len(row) < len(names))) and many_lined == number - 1 > 0:
            # A quote lost before a cell that begins with a line break joins its row to the one above.
            for suspect in (number - 1, number):
                good.pop(suspect, None)
                bad[suspect] = _JOINED
        if any("\n" in cell for cell in row):
            many_lined = number
    frame = pl.DataFrame(list(good.values()), schema=dict.fromkeys(names, pl.String), orient="row")
    return Table(path, _named(frame), tuple(BadRow(number, bad[number]) for number in sorted(bad)))


_CONTAINS_ROW = (
    "may hold other rows by lost quotes: a line in one of its cells has as many tabs as the header; "
    "check its quotes"
)
_JOINED = (
    "may be joined to another by a lost quote: a row of another width follows a cell of several lines; "
    "check the quotes of both"
)


def _named(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the columns with a name and the rows with content; empty cells are null."""
    frame = frame.select(name for name in frame.columns if not name.startswith(_NAMELESS))
    return frame.with_columns(pl.all().replace("", None)).filter(pl.any_horizontal(pl.all().is_not_null()))


def _read_json_lines(path: Path, text: str) -> Table:
    rows: list[dict[str, Any]] = []
    bad: list[BadRow] = []
    for number, line in enumerate(text.split("\n"), 1):  # other line breaks can stand in a text
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            bad.append(BadRow(number, "is not JSON"))
            continue
        if isinstance(row, dict):
            rows.append({str(name).strip(): value for name, value in row.items()})
        else:
            bad.append(BadRow(number, "is not a JSON object"))
    if not rows:
        raise CorpusError(f"the table {quoted(path)} has no line that is a JSON object")
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    frame = pl.DataFrame([_series(name, values) for name, values in columns.items()])
    return Table(path, frame, tuple(bad))


def _series(name: str, values: list[Any]) -> pl.Series:
    """Return a column of one type where its values agree, else of text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or kinds in ({str}, {bool}):
        return pl.Series(name, values, strict=False)
    return pl.Series(name, [v if v is None or isinstance(v, str) else json.dumps(v) for v in values])


def _separator(text: str) -> str:
    """Return the most frequent separator of the header line, outside quotes."""
    return max(_SEPARATORS, key=_header_signs(text).count)


def _named_separator(text: str, named: str) -> str:
    """Return the separator of the line above the header if the header uses it, else its own."""
    header = _header_signs(text)
    found = _separator(text)
    return found if named not in header and found in header else named


def _header_signs(text: str) -> str:
    """Return the header line without its quoted parts."""
    quote_free = "".join(itertools.islice(text, 65536)).split('"')[::2]
    return "".join(quote_free).split("\n", 1)[0]


def require_columns(table: Table, required: Iterable[str]) -> None:
    """Refuse a table that lacks one of these columns.

    Raises:
        CorpusError: a column is missing; the message gives the nearest that it has.
    """
    known = table.frame.columns
    for name in required:
        if name not in known:
            raise CorpusError(
                f"the table {quoted(table.path)} has no column {name!r}{nearest(name, known)}; "
                f"it has {table.shown_columns()}"
            )
