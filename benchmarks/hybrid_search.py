"""Latency of hybrid search over 100,000 studies with images and reports, encoding excluded.

    python -m benchmarks.hybrid_search --data ../shared/data

Every study has an image and a report of its own: the findings section of one Open-i report with the
impression of another, labelled as `index add` labels them. Vectors are made from real ones. Each query runs
once: a finding with severity and laterality, or a sentence of a report. Beside it, in the same run, the
search of images by a vector alone.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cohort import FINGERPRINT, SOURCE, study_of
from benchmarks.machine import describe_machine
from benchmarks.realistic import Vectors, real_vectors, spread
from corpus.errors import UsageError
from corpus.findings import VOCABULARY
from corpus.language.labeler import label_study
from corpus.language.sections import sentences
from corpus.records import Report, Study
from corpus.sources import open_source
from indexer.catalog.ledger import Ledger
from indexer.catalog.ledger_records import FORMS, ExistingItem, Key, Step, collection_of
from indexer.catalog.state import Version
from indexer.index import Index
from indexer.ingest.bm25 import document_terms
from indexer.ingest.embedding import Group, PendingImage, resolve
from indexer.ingest.payload import digest
from indexer.vectors.store import NO_VECTOR, Point
from retrieval.query.intent import read_text
from retrieval.query.query import Query, Target
from retrieval.search import search_vector

_STEP = 2_000
_KINDS = ("image", "report", "sentence", "term")
_SEVERITIES, _SIDES = ("", "small", "moderate", "large"), ("", "left", "right", "bilateral")


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of real data."
)
@click.option("--count", default=100_000, show_default=True, help="Studies in the index.")
@click.option("--queries", default=300, show_default=True, help="Distinct queries of each kind.")
def main(data: Path, count: int, queries: int) -> None:
    """Measure and print."""
    images, texts = real_vectors(data)
    reports = [
        study.report
        for study in open_source(f"openi:{data / 'openi'}").studies(lambda _: None)
        if study.report
    ]
    phrases_by_kind = {
        "finding, severity, laterality": _phrases(queries),
        "sentence of a report": _sentences(reports, queries),
    }
    read_text.cache_clear()  # each query is read as if for the first time
    table = Table(title=f"{count:,} studies with image and report, ten hits, each query once")
    for column in ("search for", "by", "queries", "p50 ms", "p95 ms", "times the vector search"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder, Index.open(Path(folder) / "home", read_only=False) as index:
        write_reported(index, reports, images, texts, count)
        vectors = spread(texts, queries, seed=1)
        plain = _time(index, ["bench"] * queries, vectors, "images")
        table.add_row("images", "vector alone", str(queries), *_row(plain, plain))
        targets: tuple[Target, ...] = ("reports", "cases")
        for target in targets:
            for name, phrases in phrases_by_kind.items():
                table.add_row(
                    target, name, str(len(phrases)), *_row(_time(index, phrases, vectors, target), plain)
                )
    Console(width=120).print(table)
    Console().print(describe_machine())


def write_reported(
    index: Index, reports: Sequence[Report], images: Vectors, texts: Vectors, count: int
) -> None:
    """Write studies of an image and a report each, as `index add` does, with given vectors."""
    ledger = Ledger(index.catalog.engine, index.home)
    ledger.register(Version(FINGERPRINT, SOURCE, images.shape[1], "", "active"))
    for kind in _KINDS:
        form = FORMS.get(kind, "dense")
        index.store.create(
            collection_of(kind, FINGERPRINT), 0 if form == "terms" else images.shape[1], {}, form
        )
    studies = _studies(reports, count)
    written: set[Key] = set()
    seed = 10
    while step := list(islice(studies, _STEP)):
        known = [
            (
                study,
                None,
                tuple(
                    PendingImage(image, None, ExistingItem(digest(image.item_id), None, None), None)
                    for image in study.images
                ),
            )
            for study in step
        ]
        resolved = resolve(Group(tuple(known)), index.home, {}, FINGERPRINT)
        new = {key: wanted for key, wanted in resolved.wanted.items() if key not in written}
        for kind in _KINDS:
            of = {point: wanted for (name, point), wanted in new.items() if name == kind}
            seed += 1
            if kind == "term":
                points = [
                    Point(point, NO_VECTOR, wanted.payload, document_terms(str(wanted.source)))
                    for point, wanted in of.items()
                ]
            else:
                vectors = spread(images if kind == "image" else texts, len(of), seed)
                points = [
                    Point(point, vector, wanted.payload)
                    for (point, wanted), vector in zip(of.items(), vectors, strict=True)
                ]
            index.store.upsert(collection_of(kind, FINGERPRINT), points)
            index.store.flush(collection_of(kind, FINGERPRINT))
        done = {key: wanted.done for key, wanted in new.items()}
        ledger.commit(Step([study for study, _ in resolved.new], done=done), FINGERPRINT, SOURCE)
        written |= new.keys()
    for kind in _KINDS:
        index.store.optimize(collection_of(kind, FINGERPRINT))


def _studies(reports: Sequence[Report], count: int) -> Iterator[Study]:
    """Studies with distinct reports: the findings of one report, the impression of another."""
    rng = np.random.default_rng(5)
    ages = rng.random(count) * 100
    pairs = rng.choice(len(reports) ** 2, count, replace=False)
    for number, pair in enumerate(pairs):
        one, other = (reports[part] for part in divmod(int(pair), len(reports)))
        stated = tuple(section for section in one.sections if section.name != "impression")
        closed = tuple(section for section in other.sections if section.name == "impression")
        study = study_of(number, ages[number])
        report = Report(f"{study.study_id}#report", (*stated, *closed))
        yield label_study(replace(study, report=report, findings={}))


def _phrases(most: int) -> list[str]:
    """Return findings with severity and laterality, in random order."""
    names = [name.replace("_", " ") for name in VOCABULARY.leaves if name != "no_finding"]
    every = [
        " ".join(filter(None, (severity, side, name)))
        for name in names
        for severity in _SEVERITIES
        for side in _SIDES
    ]
    return [every[number] for number in np.random.default_rng(6).permutation(len(every))[:most]]


def _sentences(reports: Sequence[Report], most: int) -> list[str]:
    every = sorted({sentence for report in reports for sentence in sentences(report)})
    order = np.random.default_rng(7).permutation(len(every))
    return list(islice(filter(_is_answerable, (every[number] for number in order)), most))


def _is_answerable(sentence: str) -> bool:
    """Return whether search accepts it: a query that states and denies one finding is refused."""
    try:
        read_text(sentence)
    except UsageError:
        return False
    return True


def _time(index: Index, phrases: Sequence[str], vectors: Vectors, target: Target) -> list[float]:
    """Return the seconds of each search."""
    seconds = []
    for phrase, vector in zip(phrases, vectors, strict=False):
        began = time.perf_counter()
        search_vector(index, Query(text=phrase, target=target), "text", vector)
        seconds.append(time.perf_counter() - began)
    return seconds


def _row(seconds: Sequence[float], plain: Sequence[float]) -> list[str]:
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return [f"{p50:.1f}", f"{p95:.1f}", f"{p50 / 1e3 / float(np.median(plain)):.1f}"]


if __name__ == "__main__":
    main()
