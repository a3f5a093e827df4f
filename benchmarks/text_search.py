"""Text → report: the parts of the ranking one by one, against the codes of annotators.

    python -m benchmarks.text_search --data ../shared/data --encoder runs/real

Real reports are indexed; every query is a finding with the site, laterality or severity that some report was
coded with. A report's gain is 1 for the finding and 1 more for each of these parts that its own codes have
(`benchmarks.openi_codes`); nDCG@10 compares with the best possible order. The intervals are of paired
differences, 1,000 bootstrap draws over the queries. The second table asks whether reports of the query's
laterality rank before those of the other side. The third has the queries "no X" and "X", scored by hand-made
labels and, for stated absence, by a pattern that the labeler does not use. Only the scoring reads codes and
labels.
"""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.openi_codes import Code, read_codes
from corpus.errors import SimilarityError
from corpus.findings import Status
from corpus.records import Study
from corpus.sources import open_source
from corpus.statistics import BOOTSTRAP_DRAWS, draw_subjects, interval95
from corpus.truth import Truth, read_truth
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from retrieval.answer import Answer, Hit
from retrieval.query.encode import EncodedQuery, encode_queries
from retrieval.query.feedback import QueryVector
from retrieval.query.intent import Intent
from retrieval.query.query import Query
from retrieval.search import search_all, search_encoded
from trainer.runtime.encoder import Encoder

LEAST = 3
"""Reports that match a query in full: with fewer it is not used."""
SEED = 0
TOP = 10

_WORDS = {
    "pleural_effusion": "effusion",
    "pneumothorax": "pneumothora",
    "consolidation": "consolidation",
    "cardiomegaly": "cardiomegaly|enlarged heart|cardiac enlargement",
    "edema": "edema",
    "pneumonia": "pneumonia",
    "atelectasis": "atelecta",
    "nodule": "nodul",
    "mass": r"mass\b|masses",
    "infiltration": "infiltrat",
}
_DENIES = (
    r"\b(?:no|without|negative for|free of|absen\w+|denies|nor|not|clear of)\b[^.;]{{0,120}}\b(?:{word})"
)
_NORMAL_HEART = (
    r"|(?:heart|cardiac|cardiomediastinal)[^.;]{0,80}(?:normal|unremarkable|within|not enlarged)"
    r"|normal (?:heart|cardiac) size"
)

Ablation = Callable[[EncodedQuery], EncodedQuery]


def _only(*, dense: bool = True, words: bool = True, findings: bool = True) -> Ablation:
    """Return the function that removes parts of the ranking from a query."""

    def ablate(encoded: EncodedQuery) -> EncodedQuery:
        chosen = encoded if findings else replace(encoded, intent=Intent(), where=None)
        vectors: tuple[QueryVector, ...] = encoded.vectors if dense else ()
        return replace(chosen, vectors=vectors, phrase=encoded.phrase if words else "")

    return ablate


WAYS: Mapping[str, Ablation] = {
    "dense + words + findings": _only(),
    "dense + findings": _only(words=False),
    "dense + words": _only(findings=False),
    "words (BM25)": _only(dense=False, findings=False),
    "dense": _only(words=False, findings=False),
}
"""The first is the default search; the others leave parts out."""


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of real data."
)
@click.option("--encoder", "folder", default="runs/real", show_default=True, help="Encoder folder.")
@click.option("--home", type=click.Path(path_type=Path), help="Index here and keep it; default: a new one.")
def main(data: Path, folder: str, home: Path | None) -> None:
    """Measure and print."""
    codes = read_codes(data)
    truth = read_truth(data / "openi-truth" / "openi_gold_std14.csv")
    encoder = Encoder.load(folder)
    console = Console(width=120)
    with ExitStack() as stack:
        home = home or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "home"
        index = stack.enter_context(Index.open(home, read_only=False))
        source = open_source(f"openi:{data / 'openi'}")
        add_source(index, source, encoder, origin="openi", folder=folder)
        index.use(encoder)
        console.print(graded_table(index, codes))
        console.print(swapped_table(index, codes))
        console.print(negation_table(index, truth))
    console.print(describe_machine())


def graded_queries(codes: Mapping[str, Sequence[Code]]) -> dict[str, list[Code]]:
    """Kind of query → the distinct queries that enough reports match in full."""
    distinct = {code for report_codes in codes.values() for code in report_codes}
    kinds: dict[str, list[Code]] = {
        "finding": [],
        "+ site": [],
        "+ laterality": [],
        "+ severity": [],
        "+ all": [],
    }
    seen: set[Code] = set()
    for code in sorted(distinct, key=str):
        for kind, query in (
            ("finding", Code(code.finding)),
            ("+ site", Code(code.finding, zone=code.zone)),
            ("+ laterality", Code(code.finding, side=code.side)),
            ("+ severity", Code(code.finding, severity=code.severity)),
            ("+ all", code),
        ):
            parts = sum(part is not None for part in (query.zone, query.side, query.severity))
            fits = parts >= 2 if kind == "+ all" else parts == (kind != "finding")
            whole = sum(query.gain(report_codes) == 1 + parts for report_codes in codes.values())
            if fits and query not in seen and whole >= LEAST and query.side != "bilateral":
                seen.add(query)
                kinds[kind].append(query)
    return kinds


def graded_table(index: Index, codes: Mapping[str, Sequence[Code]]) -> Table:
    """Return nDCG@10 by kind of query and way of ranking."""
    kinds = graded_queries(codes)
    queries = [code for of in kinds.values() for code in of]
    gains = {way: ndcg(answers_to(index, queries, ablate), queries, codes) for way, ablate in WAYS.items()}
    title = f"text → report, nDCG@{TOP}, {len(codes):,} coded reports, {len(queries)} queries"
    table = Table(title=title)
    table.add_column("ranked by")
    for kind, of in kinds.items():
        table.add_column(f"{kind} ({len(of)})", justify="right")
    table.add_column("all", justify="right")
    table.add_column("loss against the first (95 % CI)", justify="right")
    first = next(iter(gains.values()))
    for way, values in gains.items():
        cells, start = [], 0
        for of in kinds.values():
            cells.append(f"{values[start : start + len(of)].mean():.3f}" if of else "–")
            start += len(of)
        low, high = interval(first - values)
        paired = "" if values is first else f"{(first - values).mean():+.3f} ({low:+.3f} … {high:+.3f})"
        table.add_row(way, *cells, f"{values.mean():.3f}", paired)
    return table


def swapped_table(index: Index, codes: Mapping[str, Sequence[Code]]) -> Table:
    """Return how often a query for one side ranks reports of it before those of the other side."""
    sided = [code for code in graded_queries(codes)["+ laterality"] if code.side in ("left", "right")]
    table = Table(title=f"laterality of the query among reports of one side only, {len(sided)} queries")
    table.add_column("ranked by")
    table.add_column("first one-sided report is of the query's side", justify="right")
    table.add_column("share among the first ten one-sided reports", justify="right")
    for way, ablate in WAYS.items():
        firsts, shares = [], []
        for code, answer in zip(sided, answers_to(index, sided, ablate, k=50), strict=True):
            sides = [_one_side(codes.get(hit.case.study_id, ()), code.finding) for hit in answer.hits]
            of_one = [side for side in sides if side is not None][:TOP]
            if of_one:
                firsts.append(of_one[0] == code.side)
                shares.append(np.mean([side == code.side for side in of_one]))
        table.add_row(way, f"{np.mean(firsts):.2f}", f"{np.mean(shares):.2f}")
    return table


def _one_side(report_codes: Sequence[Code], finding: str) -> str | None:
    sides = {code.side for code in report_codes if code.finding == finding and code.side is not None}
    return next(iter(sides)) if len(sides) == 1 and "bilateral" not in sides else None


def negation_table(index: Index, truth: Truth) -> Table:
    """Return what the top ten of "no X" and of "X" state, beside the corpus and the highest possible."""
    texts = {study_id: study.report.text for study_id, study in _studies(index).items() if study.report}
    labelled = [study_id for study_id in texts if truth.of(study_id)]
    table = Table(title='top ten of "no X" and of "X", reports with hand-made labels')
    for column in (
        "X",
        '"no X": state absence',
        "at most",
        "show X",
        "in the corpus: state absence",
        '"X": show it',
        "in the corpus: show",
    ):
        table.add_column(column, justify="right" if column != "X" else "left")
    rows = []
    for finding in (name for name in truth.findings if name in _WORDS):
        name = finding.replace("_", " ")
        denied, stated = (
            search_or_raise(index, [Query(text=text, target="reports", k=TOP)])[0]
            for text in (f"no {name}", name)
        )
        stating = [
            states_absence(texts[i], finding) and truth.of(i).get(finding) is not Status.PRESENT
            for i in labelled
        ]
        row = [
            np.mean(
                [
                    states_absence(hit.case.text or "", finding) and not _shows(truth, hit, finding)
                    for hit in denied.hits
                ]
            ),
            np.minimum(1, np.sum(stating) / TOP),
            np.mean([_shows(truth, hit, finding) for hit in denied.hits]),
            np.mean(stating),
            np.mean([_shows(truth, hit, finding) for hit in stated.hits]),
            np.mean([truth.of(study_id).get(finding) is Status.PRESENT for study_id in labelled]),
        ]
        rows.append(row)
        table.add_row(name, *(f"{value:.2f}" for value in row))
    table.add_section()
    table.add_row("mean", *(f"{value:.2f}" for value in np.mean(rows, axis=0)))
    return table


def states_absence(text: str, finding: str) -> bool:
    """Return whether a report denies a finding in words: by a pattern of its own, not by the labeler."""
    pattern = _DENIES.format(word=_WORDS[finding])
    if finding == "cardiomegaly":
        pattern += _NORMAL_HEART
    return re.search(pattern, text, re.IGNORECASE) is not None


def _shows(truth: Truth, hit: Hit, finding: str) -> bool:
    return truth.of(hit.case.study_id).get(finding) is Status.PRESENT


def _studies(index: Index) -> dict[str, Study]:
    return index.catalog.studies(list(index.catalog.study_ids()))


def answers_to(index: Index, queries: Sequence[Code], ablate: Ablation, k: int = TOP) -> list[Answer]:
    """Answer queries without the parts of the ranking that `ablate` removes."""
    answers = []
    for encoded in encode_queries(index, [Query(text=code.text, target="reports", k=k) for code in queries]):
        if isinstance(encoded, SimilarityError):
            raise encoded
        answers.append(search_encoded(index, ablate(encoded)))
    return answers


def search_or_raise(index: Index, queries: Sequence[Query]) -> list[Answer]:
    """Answer queries, each of which must have an answer."""
    answers = []
    for answer in search_all(index, queries):
        if isinstance(answer, SimilarityError):
            raise answer
        answers.append(answer)
    return answers


def ndcg(
    answers: Sequence[Answer], queries: Sequence[Code], codes: Mapping[str, Sequence[Code]]
) -> NDArray[np.float64]:
    """Return nDCG@10 of each answer.

    A report without codes has gain 0. Near-duplicates count once, as one hit.
    """
    values = []
    for code, answer in zip(queries, answers, strict=True):
        got = [code.gain(codes.get(hit.case.study_id, ())) for hit in answer.hits]
        best = sorted((code.gain(report_codes) for report_codes in codes.values()), reverse=True)
        values.append(_dcg(got) / _dcg(best))
    return np.array(values)


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(rank + 2) for rank, gain in enumerate(gains[:TOP])))


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a mean of paired differences, by bootstrap over the queries."""
    drawn = draw_subjects(np.arange(len(differences)), BOOTSTRAP_DRAWS, SEED)
    low, high = interval95(drawn @ differences / len(differences)) or (np.nan, np.nan)
    return low, high


if __name__ == "__main__":
    main()
