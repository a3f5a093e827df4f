"""Tables as people save them: CSV in any usual encoding and separator, Parquet, JSON lines, also gzipped.

Everything from a CSV is text; empty cells are null. A row that does not fit its header is set aside with its
reason, and the rest of the table is read.
"""

import codecs
import csv
import difflib
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from corpus.errors import CorpusError
from corpus.files import UnreadableFile, quoted, read_bytes

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMELESS = "\0nameless "
_SEPARATORS = ",;\t|"
_HEADER_SHOWN = 12  # columns of an unfamiliar table that a message lists
_LARGEST_UNPACKED = 2 << 30  # bytes; the largest published table has a tenth of it


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was set aside: its number (the first row below the header is 1) and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table's rows and those that were set aside. `path` is where it was read."""

    path: Path
    frame: pl.DataFrame
    bad_rows: tuple[BadRow, ...] = ()


def read_table(path: Path, *, required: Iterable[str] = (), wanted: Iterable[str] | None = None) -> Table:
    """Read a table by its extension: .csv, .tsv, .txt (text), .parquet, .jsonl or .ndjson.

    A further `.gz` is unpacked in memory.

    Args:
        path: the table.
        required: columns it must have.
        wanted: keep only these columns (those of them that there are); None keeps all.

    Raises:
        CorpusError: it cannot be read, is empty, has a column twice, or lacks a required one (the message
            gives the nearest that it has).
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
                table = Table(path, pl.read_parquet(io.BytesIO(content)))
            case ".jsonl" | ".ndjson":
                table = _read_json_lines(path, decode_text(content))
            case ".csv" | ".tsv" | ".txt" | "":
                table = _read_csv(path, decode_text(content))
            case other:
                raise CorpusError(
                    f"the table {quoted(path)} is {other}: .csv, .parquet and .jsonl are read; convert it"
                )
    except (pl.exceptions.PolarsError, csv.Error) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(f"the table {quoted(path)} cannot be read: {why}") from error
    _require_columns(table, required)
    if wanted is None:
        return table
    kept = [name for name in wanted if name in table.frame.columns]
    return Table(path, table.frame.select(kept), table.bad_rows)


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


def read_text(path: Path) -> str:
    """Read a text file in whatever usual encoding it has; see `decode_text`.

    Raises:
        UnreadableFile: it is not there, empty, not a file, not permitted, …
    """
    return decode_text(read_bytes(path))


def decode_text(content: bytes) -> str:
    """Decode by the byte-order mark, else as UTF-8, else as Windows-1252, else as Latin-1.

    UTF-16 without a mark is known by its zero bytes. Latin-1 fits any bytes, so this never fails.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    if content[1:64:2].count(0) > 20 or content[:64:2].count(0) > 20:
        return content.decode("utf-16-le" if content[1] == 0 else "utf-16-be", errors="replace")
    for encoding in ("utf-8", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known name closest to `name`, or nothing where none is close."""
    lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    close = close or [k for k in lower if len(name) > 2 and k.startswith(name.lower())][:1]
    return f" (did you mean {lower[close[0]]!r}?)" if close else ""


def _read_csv(path: Path, text: str) -> Table:
    text = text.lstrip("\r\n")
    separator = _separator(text)
    header = [name.strip() for name in next(csv.reader(io.StringIO(text), delimiter=separator), [])]
    if not any(header):
        raise CorpusError(f"the table {quoted(path)} has no header: its first line must name the columns")
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise CorpusError(f"the table {quoted(path)} has the column {twice!r} twice: rename one")
    # What stands under no name is not read: many tables end their header with a separator.
    names = [name or f"{_NAMELESS}{place}" for place, name in enumerate(header, 1)]
    try:
        frame = pl.read_csv(text.encode(), separator=separator, has_header=False, infer_schema=False)
        # polars fills short rows and would cut long ones: the widest row decides which way is safe.
        if frame.width == len(names) or all(s.null_count() == frame.height for s in frame[:, len(names) :]):
            frame = frame[1:, : len(names)]
            return Table(path, _named(frame.rename(dict(zip(frame.columns, names, strict=True)))))
    except (pl.exceptions.PolarsError, ValueError):
        pass
    return _read_rows_one_by_one(path, text, separator, names)


def _read_rows_one_by_one(path: Path, text: str, separator: str, names: list[str]) -> Table:
    """The slow way, for tables with rows of a wrong width: each is judged by itself."""
    good: list[list[str | None]] = []
    bad: list[BadRow] = []
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    for number, row in enumerate(itertools.islice(rows, 1, None), 1):
        cells = [cell if cell.strip() else None for cell in row]
        while len(cells) > len(names) and cells[-1] is None:
            cells.pop()
        if len(cells) > len(names):
            bad.append(BadRow(number, f"has {len(cells)} cells under {len(names)} columns"))
        elif any(cells):
            good.append(cells + [None] * (len(names) - len(cells)))
    frame = pl.DataFrame(good, schema=dict.fromkeys(names, pl.String), orient="row")
    return Table(path, _named(frame), tuple(bad))


def _named(frame: pl.DataFrame) -> pl.DataFrame:
    """Keep the columns that have a name, and the rows that have anything in them; empty cells are null."""
    frame = frame.select(name for name in frame.columns if not name.startswith(_NAMELESS))
    return frame.with_columns(pl.all().replace("", None)).filter(pl.any_horizontal(pl.all().is_not_null()))


def _read_json_lines(path: Path, text: str) -> Table:
    rows: list[dict[str, Any]] = []
    bad: list[BadRow] = []
    for number, line in enumerate(text.splitlines(), 1):
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
    """A column of one type where its values agree, else of text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or kinds in ({str}, {bool}):
        return pl.Series(name, values, strict=False)
    return pl.Series(name, [v if v is None or isinstance(v, str) else json.dumps(v) for v in values])


def _separator(text: str) -> str:
    """The separator the header line uses most, outside quotes."""
    quote_free = "".join(itertools.islice(text, 65536)).split('"')[::2]
    first = "".join(quote_free).split("\n", 1)[0]
    return max(_SEPARATORS, key=first.count)


def _require_columns(table: Table, required: Iterable[str]) -> None:
    known = table.frame.columns
    for name in required:
        if name not in known:
            shown = ", ".join(known[:_HEADER_SHOWN]) + (", …" if len(known) > _HEADER_SHOWN else "")
            raise CorpusError(
                f"the table {quoted(table.path)} has no column {name!r}{nearest(name, known)}; it has {shown}"
            )
