"""Backup of one index in one file, and its restoration.

The catalog is written row by row and the vectors collection by collection, so that a backup of the embedded
stores can be restored onto servers and the other way round. Encoders are not in it: they are folders of their
own. The file contains the key and every report: its mode is 0600, and it belongs where the originals do.

A backup is whole or not there: it is written aside, with the hash of every part, and renamed. Restoring
checks every hash before anything is written, and fills an empty home, database and server only: the
catalog's rows, without which the rest is unreachable, are committed in one transaction at the end. An
interrupted restore is begun anew by the next.

A backup carries the identity of its index, and what is restored is that index; or, on request, a copy of it
with an identity of its own.
"""

import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any, cast
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

import migrations
from corpus.errors import HomeError, IndexingError
from indexer.belonging import mark_embedded
from indexer.catalog.catalog import Catalog
from indexer.catalog.dump import dump_rows, restore_rows, table_names
from indexer.catalog.identity import IdentityState, begin_restore, namespace_of
from indexer.catalog.ledger_records import alias_of
from indexer.home import home_error, write_private
from indexer.index import Index
from indexer.key import KEY_BYTES
from indexer.key_transfer import import_key
from indexer.servers import Servers
from indexer.stores import server_store
from indexer.vectors.filters import FieldType
from indexer.vectors.store import Form, Point, Terms, VectorStore

FORMAT = 1
_TARGET = ".restoring"
"""File in the home while a restore runs: the id of the index and where its vectors go."""
_POINTS = 2_000  # in one part: no more is in memory at a time


@dataclass(frozen=True, slots=True)
class BackupContents:
    """The contents of a backup. `rows`: table → number; `vectors`: collection → number; `index_id`: of its
    index, None in a backup of a version that did not distinguish indexes."""

    created: str
    rows: dict[str, int]
    vectors: dict[str, int]
    index_id: UUID | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the form of `docs/contracts/backup.schema.json`."""
        return {"created": self.created, "rows": dict(self.rows), "vectors": dict(self.vectors)}


def back_up(index: Index, file: Path) -> BackupContents:
    """Write a backup of an index to a file, mode 0600.

    Args:
        index: open for writing; no run changes it meanwhile, on whichever machine; searches continue.
        file: replaced if it is there.

    Raises:
        HomeError: the file cannot be written.
        IndexInUse: a run that writes did not end in time.
        LeaseLost: this run was silent for too long, and another replaced it.
    """
    aside = file.with_name(f".{file.name}.part")
    with index.writing("backup") as lease:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        contents = BackupContents(created, {}, {}, index.catalog.identity().index_id)
        try:
            with os.fdopen(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
                _write(index, contents, written)
                written.flush()
                os.fsync(written.fileno())
            lease.check()  # else another run changed the index while it was read
            aside.replace(file)
        except OSError as error:
            raise home_error(file.parent, error) from error
        finally:
            with suppress(OSError):
                aside.unlink()
    return contents


def _write(index: Index, contents: BackupContents, written: IO[bytes]) -> None:
    hashes: dict[str, str] = {}
    with tarfile.open(fileobj=written, mode="w:gz", compresslevel=1) as tar:
        _add(tar, hashes, "key", index.home.key)
        for name, content in _catalog_parts(index.catalog, contents):
            _add(tar, hashes, name, content)
        for name, content in _vector_parts(index.store, contents):
            _add(tar, hashes, name, content)
        header = {
            "format": FORMAT,
            "revision": migrations.HEAD,
            "index": contents.index_id and contents.index_id.hex,
            **contents.as_json(),
            "sha256": hashes,
        }
        _add(tar, {}, "backup.json", json.dumps(header).encode())


def restore(file: Path, home: Path, *, copy: bool = False, servers: Servers | None = None) -> BackupContents:
    """Restore a backup into an empty home, and, where servers are named, onto those.

    Args:
        file: what `back_up` wrote.
        home: without an index.
        copy: give what is restored an identity of its own, so that it can stand beside the original on one
            server; else it is the index that was backed up.
        servers: default as the settings have it.

    Raises:
        IndexingError: the file is no backup, is damaged, or is of a newer version of the program.
        HomeError: home, database or server have an index already, or cannot be written.
    """
    contents = check(file)
    _restore_key(file, home)
    servers = servers or Servers.named()
    with _open(home, servers) as index, index.writing("restore"):
        _begin(index, contents.index_id, copy)
    with _open(home, servers) as index, index.writing("restore") as lease:
        if index.catalog.identity().state is not IdentityState.RESTORING:
            raise _holds_an_index(index)
        for collection in index.store.collections():  # of a restore that was interrupted
            lease.check()
            index.store.drop(collection)
        fields = _own_fields(file)
        for name, content in _parts(file):
            if name.startswith("vectors/"):
                lease.check()
                _restore_points(index.store, name, content, fields)
        for collection in contents.vectors:
            index.store.flush(collection)
        if servers.qdrant_url is None:
            mark_embedded(index.home, index.catalog.identity())
        restore_rows(index.catalog, _row_parts(file), lease.lease_id)
        index.name_live_collections()
        with suppress(OSError):
            (index.home.folder / _TARGET).unlink()
    return contents


def _open(home: Path, servers: Servers) -> Index:
    return Index.open(home, read_only=False, servers=servers, check=False)


def _begin(index: Index, original: UUID | None, copy: bool) -> None:
    """Give an empty catalog the identity of what is restored: the original's, or one of its own.

    Vectors of that identity are those of an interrupted restore, and are dropped later, only where a file in
    the home says that it wrote there: elsewhere they are the original's.

    Raises:
        HomeError: catalog or vectors hold an index already.
    """
    identity = index.catalog.identity()
    with index.catalog.reading() as read:
        if read.has_studies() or index.catalog.versions():
            raise _holds_an_index(index)
    wanted = original
    if copy or wanted is None:
        wanted = identity.index_id if identity.index_id != original else uuid4()
    restored = replace(identity, index_id=wanted, namespace=namespace_of(wanted))
    served = server_store(restored, servers=index.servers)
    try:
        store = index.store if served is None else served
        target = f"{wanted.hex} {index.home.vectors if served is None else served.name}"
        again = identity.state is IdentityState.RESTORING and _target(index.home.folder) == target
        if not again and store.collections():
            where = index.home.vectors if served is None else served.name
            raise HomeError(
                f"{where} has vectors of the index {restored.short} already, which are not written over: "
                "restore beside them with --copy, or onto another server or home"
            )
    finally:
        if served is not None:
            served.close()
    try:
        write_private(index.home.folder / _TARGET, target.encode())
    except OSError as error:
        raise home_error(index.home.folder, error) from error
    begin_restore(index.catalog.engine, identity, wanted)


def _target(home: Path) -> str | None:
    """Return the index and the store that an interrupted restore in this home wrote to."""
    try:
        return (home / _TARGET).read_text()
    except OSError:
        return None


def _holds_an_index(index: Index) -> HomeError:
    return HomeError(
        f"{index.catalog.name} holds an index already: restore into another SIMILARITY_HOME or another "
        "database"
    )


def check(file: Path) -> BackupContents:
    """Read a backup through and compare every part with its hash.

    Raises:
        IndexingError: it is no backup, is damaged, or is of a newer version of the program.
    """
    hashes: dict[str, str] = {}
    header: dict[str, Any] = {}
    for name, content in _parts(file):
        if name == "backup.json":
            header = json.loads(content)
        else:
            hashes[name] = hashlib.sha256(content).hexdigest()
    if not header or header.get("sha256") != hashes:
        raise IndexingError(f"{file.name} is no whole backup: a part is missing or differs from its hash")
    if header["format"] != FORMAT or header["revision"] > migrations.HEAD:
        raise IndexingError(f"{file.name} was made by a newer version of Similarity: update the program")
    index_id = header.get("index")
    return BackupContents(
        header["created"], header["rows"], header["vectors"], UUID(hex=index_id) if index_id else None
    )


def _add(tar: tarfile.TarFile, hashes: dict[str, str], name: str, content: bytes) -> None:
    hashes[name] = hashlib.sha256(content).hexdigest()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def _parts(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every part, in order; nothing is unpacked to a path that the file names."""
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


def _catalog_parts(catalog: Catalog, contents: BackupContents) -> Iterator[tuple[str, bytes]]:
    """Yield the parts of every table, and count their rows in `contents`."""
    contents.rows.update(dict.fromkeys(table_names(), 0))
    parts: Counter[str] = Counter()
    for table, lines in dump_rows(catalog):
        contents.rows[table] += len(lines)
        yield f"catalog/{table}/{parts[table]}.jsonl", "\n".join(lines).encode()
        parts[table] += 1


def _vector_parts(store: VectorStore, contents: BackupContents) -> Iterator[tuple[str, bytes]]:
    for collection in store.collections():
        contents.vectors[collection] = 0
        ids = store.ids(collection)
        number = 0
        while batch := list(islice(ids, _POINTS)):
            points = store.fetch(collection, batch)
            contents.vectors[collection] += len(points)
            yield f"vectors/{collection}/{number}.npz", write_points(points)
            number += 1


def _restore_key(file: Path, home: Path) -> None:
    """Write the backup's key to a home, in place of one that nothing was made with."""
    key = next((content for name, content in _parts(file) if name == "key"), b"")
    if len(key) != KEY_BYTES:
        raise IndexingError(f"{file.name} holds no key")
    import_key(key, home)


def _restore_points(
    store: VectorStore, name: str, content: bytes, own_fields: Mapping[str, FieldType]
) -> None:
    collection = name.split("/")[1]
    form, dim, points = read_points(content)
    if collection not in store.collections():
        # A sentence's payload has no study's fields.
        fields = {} if collection.startswith(f"{alias_of('sentence')}__") else own_fields
        store.create(collection, dim, fields, form)
    store.upsert(collection, points)


def _own_fields(file: Path) -> dict[str, FieldType]:
    """Return the filter fields of a backup that are columns of tables: its collections are made with them."""
    rows = [
        json.loads(line) for table, lines in _row_parts(file) if table == "filter_field" for line in lines
    ]
    return {name: FieldType(kind) for name, kind in rows}


def _row_parts(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (table, rows) of every part of the catalog."""
    for name, content in _parts(file):
        if name.startswith("catalog/"):
            yield name.split("/")[1], content.decode().splitlines()


def write_points(points: Sequence[Point]) -> bytes:
    """Return points of one collection as bytes; there is at least one point.

    Arrays and JSON only: reading such bytes runs no code. Vectors and words are concatenated, with the number
    of rows and words of each point.
    """
    terms = [point.terms or Terms() for point in points]
    rows = [np.atleast_2d(point.vector) for point in points]
    payloads = json.dumps([dict(point.payload) for point in points])
    content = io.BytesIO()
    np.savez(
        content,
        form=np.array(_form_of(points[0])),
        ids=np.frombuffer(b"".join(point.id.bytes for point in points), np.uint8).reshape(-1, 16),
        rows=np.concatenate(rows).astype(np.float32),
        row_counts=np.array([len(part) for part in rows], np.int64),
        term_ids=np.array([name for part in terms for name in part.ids], np.uint32),
        term_weights=np.array([weight for part in terms for weight in part.weights], np.float32),
        term_counts=np.array([len(part.ids) for part in terms], np.int64),
        payloads=np.frombuffer(payloads.encode(), np.uint8),
    )
    return content.getvalue()


def read_points(content: bytes) -> tuple[Form, int, list[Point]]:
    """Read what `write_points` wrote: the collection's form, its dimension (0 of terms), and the points."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        form = cast(Form, str(arrays["form"]))
        ids = [UUID(bytes=row.tobytes()) for row in arrays["ids"]]
        rows, names, weights = arrays["rows"], arrays["term_ids"], arrays["term_weights"]
        vectors = [rows[begin:end] for begin, end in _spans(arrays["row_counts"])]
        words = [slice(begin, end) for begin, end in _spans(arrays["term_counts"])]
        payloads = json.loads(arrays["payloads"].tobytes())
    points = [
        Point(
            point,
            vector if form == "patches" else vector[0],
            payload,
            Terms(tuple(names[span].tolist()), tuple(weights[span].tolist())) if form == "terms" else None,
        )
        for point, vector, span, payload in zip(ids, vectors, words, payloads, strict=True)
    ]
    return form, int(rows.shape[1]), points


def _form_of(point: Point) -> Form:
    if point.terms is not None:
        return "terms"
    return "patches" if point.vector.ndim == 2 else "dense"


def _spans(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return start and end of each part."""
    return list(pairwise([0, *np.cumsum(counts).tolist()]))
