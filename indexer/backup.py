"""A backup of everything of one index in one file, and what is made of it again.

The catalog is written row by row and the vectors collection by collection, so that a backup of the embedded
stores can be restored onto servers and the other way round. Encoders are not in it: they are folders of their
own. The file holds the key and every report: it is made for its owner alone, and belongs where the originals
do.

A backup is whole or not there: it is written aside, with the hash of every part, and renamed. Restoring
checks every hash before anything is written, and fills an empty home only: the catalog's rows, which alone
make the rest count, come in one transaction at the end.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

import migrations
from corpus.errors import HomeError, IndexingError
from indexer.catalog.ledger import FORMS, KINDS, collection_of
from indexer.catalog.models import Base, StudyRow
from indexer.home import KEY_BYTES, home_error
from indexer.index import Index
from indexer.vectors.archive import read_points, write_points
from indexer.vectors.store import VectorStore

FORMAT = 1
_ROWS, _POINTS = 2_000, 2_000  # in one part: no more is in memory at a time


@dataclass(frozen=True, slots=True)
class Held:
    """What a backup holds."""

    created: str
    rows: dict[str, int]
    vectors: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """The form of `docs/contracts/backup.schema.json`."""
        return {"created": self.created, "rows": dict(self.rows), "vectors": dict(self.vectors)}


def back_up(index: Index, file: Path) -> Held:
    """Write everything of an index into a file, mode 0600.

    Args:
        index: open for writing, so that no other job changes it meanwhile; searches go on.
        file: replaced if it is there.

    Raises:
        HomeError: the file cannot be written.
    """
    aside = file.with_name(f".{file.name}.part")
    held = Held(datetime.now(UTC).isoformat(timespec="seconds"), {}, {})
    hashes: dict[str, str] = {}
    try:
        with os.fdopen(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
            with tarfile.open(fileobj=written, mode="w:gz", compresslevel=1) as tar:
                _add(tar, hashes, "key", index.home.key)
                for name, content in _catalog_parts(index.catalog.engine, held):
                    _add(tar, hashes, name, content)
                for name, content in _vector_parts(index.store, held):
                    _add(tar, hashes, name, content)
                told = {"format": FORMAT, "revision": migrations.HEAD, **held.as_json(), "sha256": hashes}
                _add(tar, {}, "backup.json", json.dumps(told).encode())
            written.flush()
            os.fsync(written.fileno())
        aside.replace(file)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise home_error(file.parent, error) from error
    return held


def restore(file: Path, home: Path) -> Held:
    """Make a home of a backup.

    Args:
        file: what `back_up` wrote.
        home: holds no index yet; with servers named in the settings, theirs are filled.

    Raises:
        IndexingError: the file is no backup, is damaged, or is of a newer version of the program.
        HomeError: the home holds an index already, or cannot be written.
    """
    told = check(file)
    _place_key(file, home)
    with Index.open(home, read_only=False) as index:
        with index.catalog.engine.connect() as connection:
            if connection.execute(sa.select(StudyRow.study_id).limit(1)).first() is not None:
                raise HomeError(f"{home} holds an index already: restore into another SIMILARITY_HOME")
        for name, content in _parts(file):
            if name.startswith("vectors/"):
                _restore_points(index.store, name, content)
        for collection in told.vectors:
            index.store.flush(collection)
        _restore_rows(index.catalog.engine, file)
        _index_own_fields(index)
    return told


def check(file: Path) -> Held:
    """Read a backup through and compare every part with its hash.

    Raises:
        IndexingError: it is no backup, is damaged, or is of a newer version of the program.
    """
    hashes: dict[str, str] = {}
    told: dict[str, Any] = {}
    for name, content in _parts(file):
        if name == "backup.json":
            told = json.loads(content)
        else:
            hashes[name] = hashlib.sha256(content).hexdigest()
    if not told or told.get("sha256") != hashes:
        raise IndexingError(f"{file.name} is no whole backup: a part is missing or differs from its hash")
    if told["format"] != FORMAT or told["revision"] > migrations.HEAD:
        raise IndexingError(f"{file.name} was made by a newer version of Similarity: update the program")
    return Held(told["created"], told["rows"], told["vectors"])


def _add(tar: tarfile.TarFile, hashes: dict[str, str], name: str, content: bytes) -> None:
    hashes[name] = hashlib.sha256(content).hexdigest()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def _parts(file: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every part, in order; nothing is unpacked to a path that the file names."""
    try:
        with tarfile.open(file, "r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    yield member.name, content.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise IndexingError(
            f"{file.name} cannot be read as a backup: it is damaged or another file"
        ) from error


def _catalog_parts(engine: sa.Engine, held: Held) -> Iterator[tuple[str, bytes]]:
    """Every row of every table, as of one moment, in the order in which they can be put back."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        for table in Base.metadata.sorted_tables:
            held.rows[table.name] = 0
            result = connection.execution_options(yield_per=_ROWS).execute(
                sa.select(table).order_by(*table.primary_key.columns)
            )
            for number, rows in enumerate(result.partitions()):
                lines = [json.dumps([_written(value) for value in row]) for row in rows]
                held.rows[table.name] += len(lines)
                yield f"catalog/{table.name}/{number}.jsonl", "\n".join(lines).encode()


def _vector_parts(store: VectorStore, held: Held) -> Iterator[tuple[str, bytes]]:
    for collection in store.collections():
        held.vectors[collection] = 0
        ids = store.ids(collection)
        number = 0
        while batch := list(islice(ids, _POINTS)):
            points = store.fetch(collection, batch)
            held.vectors[collection] += len(points)
            yield f"vectors/{collection}/{number}.npz", write_points(points)
            number += 1


def _place_key(file: Path, home: Path) -> None:
    """Put the backup's key into a home that has none."""
    key = next((content for name, content in _parts(file) if name == "key"), b"")
    if len(key) != KEY_BYTES:
        raise IndexingError(f"{file.name} holds no key")
    path = home / ".key"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.read_bytes() != key:
            raise HomeError(f"{home} has a key of its own: restore into another SIMILARITY_HOME")
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
                written.write(key)
    except OSError as error:
        raise home_error(home, error) from error


def _restore_points(store: VectorStore, name: str, content: bytes) -> None:
    collection = name.split("/")[1]
    form, dim, points = read_points(content)
    if collection not in store.collections():
        store.create(collection, dim, {}, form)
    store.upsert(collection, points)


def _index_own_fields(index: Index) -> None:
    """Let the collections be filtered by the tables' own columns, too."""
    held = set(index.store.collections())
    for version in index.catalog.versions():
        for kind in KINDS:
            collection, form = collection_of(kind, version.fingerprint), FORMS.get(kind, "dense")
            if collection in held and kind != "sentence":
                dim = 0 if form == "terms" else version.dim
                index.store.create(collection, dim, index.catalog.own_fields(), form)


def _restore_rows(engine: sa.Engine, file: Path) -> None:
    tables = {table.name: table for table in Base.metadata.sorted_tables}
    with engine.begin() as connection:
        for name, content in _parts(file):
            if not name.startswith("catalog/"):
                continue
            table = tables[name.split("/")[1]]
            columns = list(table.columns)
            rows = [
                {c.name: _read(c, value) for c, value in zip(columns, json.loads(line), strict=True)}
                for line in content.decode().splitlines()
            ]
            if rows:
                connection.execute(sa.insert(table), rows)
        if engine.dialect.name == "postgresql":
            # Numbers that the rows brought along were not drawn from the sequence: let it go on after them.
            connection.execute(
                sa.text(
                    "SELECT setval(pg_get_serial_sequence('audit', 'number'), "
                    "(SELECT COALESCE(MAX(number), 0) + 1 FROM audit), false)"
                )
            )


def _written(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return value.hex if isinstance(value, UUID) else value


def _read(column: sa.Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, sa.DateTime):
        return datetime.fromisoformat(value)
    return UUID(hex=value) if isinstance(column.type, sa.Uuid) else value
