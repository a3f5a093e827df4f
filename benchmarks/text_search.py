"""Reports found by a text: the parts of the ranking one by one, against what subjects coded.

    python -m benchmarks.text_search --data ../shared/data --encoder runs/real

Real reports are indexed; every question is a finding with the site, side or degree that some report was coded
with. A report is worth 1 for the finding and 1 more for each of these parts that its own codes have
(`benchmarks.openi_codes`): nDCG@10 against the best order there is. The intervals are of paired differences,
1,000 bootstrap draws over the questions. A second table asks with the side exchanged, a third asks "no X" and
"X", judged by hand-made labels and, for "states that there is none", by a pattern that the labeler does not
use. Scorers alone read the codes and the labels.
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
"""Reports that answer a question in full: with fewer it is not asked."""
SEED = 0
DRAWS = 1_000
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

Prefix = Callable[[EncodedQuery], EncodedQuery]


def _only(*, dense: bool = True, words: bool = True, findings: bool = True) -> Prefix:
    """The query with parts of the ranking taken out of it."""

    def prefix(understood: EncodedQuery) -> EncodedQuery:
        chosen = understood if findings else replace(understood, intent=Intent(), where=None)
        vectors: tuple[QueryVector, ...] = understood.vectors if dense else ()
        return replace(chosen, vectors=vectors, phrase=understood.phrase if words else "")

    return prefix


WAYS: Mapping[str, Prefix] = {
    "dense + words + findings": _only(),
    "dense + findings": _only(words=False),
    "dense + words": _only(findings=False),
    "words (BM25)": _only(dense=False, findings=False),
    "dense": _only(words=False, findings=False),
}
"""The first is what a search does; the others leave parts out."""


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
    with ExitStack() as stored:
        position = home or Path(stored.enter_context(tempfile.TemporaryDirectory())) / "home"
        index = stored.enter_context(Index.open(position, read_only=False))
        source = open_source(f"openi:{data / 'openi'}")
        add_source(index, source, encoder, origin="openi", folder=folder)
        index.use(encoder)
        console.print(graded_table(index, codes))
        console.print(swapped_table(index, codes))
        console.print(negation_table(index, truth))
    console.print(describe_machine())


def questions(codes: Mapping[str, Sequence[Code]]) -> dict[str, list[Code]]:
    """Kind of question → the different ones that enough reports answer in full."""
    shown = {code for summary in codes.values() for code in summary}
    kinds: dict[str, list[Code]] = {"finding": [], "+ site": [], "+ side": [], "+ degree": [], "+ all": []}
    seen: set[Code] = set()
    for code in sorted(shown, key=str):
        for kind, requested in (
            ("finding", Code(code.finding)),
            ("+ site", Code(code.finding, zone=code.zone)),
            ("+ side", Code(code.finding, side=code.side)),
            ("+ degree", Code(code.finding, degree=code.degree)),
            ("+ all", code),
        ):
            parts = sum(part is not None for part in (requested.zone, requested.side, requested.degree))
            fits = parts >= 2 if kind == "+ all" else parts == (kind != "finding")
            whole = sum(requested.gain(summary) == 1 + parts for summary in codes.values())
            if fits and requested not in seen and whole >= LEAST and requested.side != "bilateral":
                seen.add(requested)
                kinds[kind].append(requested)
    return kinds


def graded_table(index: Index, codes: Mapping[str, Sequence[Code]]) -> Table:
    """nDCG@10 by kind of question and way of ranking."""
    kinds = questions(codes)
    requested = [code for of in kinds.values() for code in of]
    gains = {way: ndcg(ask(index, requested, prefix), requested, codes) for way, prefix in WAYS.items()}
    title = f"text → report, nDCG@{TOP}, {len(codes):,} coded reports, {len(requested)} questions"
    table = Table(title=title)
    table.add_column("ranked by")
    for kind, of in kinds.items():
        table.add_column(f"{kind} ({len(of)})", justify="right")
    table.add_column("all", justify="right")
    table.add_column("less than the first, 95 %", justify="right")
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
    """Whether a question for one side ranks reports of it before those of the other, and the reverse."""
    sided = [code for code in questions(codes)["+ side"] if code.side in ("left", "right")]
    table = Table(title=f"side asked for first among reports of one side only, {len(sided)} questions")
    table.add_column("ranked by")
    table.add_column("first sided report is of the side asked for", justify="right")
    table.add_column("top ten sided reports of that side", justify="right")
    for way, prefix in WAYS.items():
        firsts, shares = [], []
        for code, answer in zip(sided, ask(index, sided, prefix, k=50), strict=True):
            summary = [_one_side(codes.get(hit.case.study_id, ()), code.finding) for hit in answer.hits]
            of_one = [side for side in summary if side is not None][:TOP]
            if of_one:
                firsts.append(of_one[0] == code.side)
                shares.append(np.mean([side == code.side for side in of_one]))
        table.add_row(way, f"{np.mean(firsts):.2f}", f"{np.mean(shares):.2f}")
    return table


def _one_side(shown: Sequence[Code], finding: str) -> str | None:
    sides = {code.side for code in shown if code.finding == finding and code.side is not None}
    return next(iter(sides)) if len(sides) == 1 and "bilateral" not in sides else None


def negation_table(index: Index, truth: Truth) -> Table:
    """What the top ten of "no X" and of "X" say, beside the whole corpus and what ten of it could say."""
    texts = {study_id: study.report.text for study_id, study in _studies(index).items() if study.report}
    stored = [study_id for study_id in texts if truth.of(study_id)]
    table = Table(title='top ten of "no X" and of "X", reports of hand-made labels')
    for column in (
        "X",
        '"no X": state it',
        "at most",
        "show X",
        "in the corpus: state",
        '"X": show it',
        "in the corpus: show",
    ):
        table.add_column(column, justify="right" if column != "X" else "left")
    rows = []
    for finding in (name for name in truth.findings if name in _WORDS):
        name = finding.replace("_", " ")
        denied, shown = (
            search_or_raise(index, [Query(text=text, target="reports", k=TOP)])[0]
            for text in (f"no {name}", name)
        )
        stating = [
            states_absence(texts[i], finding) and truth.of(i).get(finding) is not Status.PRESENT
            for i in stored
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
            np.mean([_shows(truth, hit, finding) for hit in shown.hits]),
            np.mean([truth.of(study_id).get(finding) is Status.PRESENT for study_id in stored]),
        ]
        rows.append(row)
        table.add_row(name, *(f"{value:.2f}" for value in row))
    table.add_section()
    table.add_row("mean", *(f"{value:.2f}" for value in np.mean(rows, axis=0)))
    return table


def states_absence(text: str, finding: str) -> bool:
    """Whether a report denies a finding in words: by a pattern of its own, not by the labeler."""
    pattern = _DENIES.format(word=_WORDS[finding])
    if finding == "cardiomegaly":
        pattern += _NORMAL_HEART
    return re.search(pattern, text, re.IGNORECASE) is not None


def _shows(truth: Truth, hit: Hit, finding: str) -> bool:
    return truth.of(hit.case.study_id).get(finding) is Status.PRESENT


def _studies(index: Index) -> dict[str, Study]:
    return index.catalog.studies(list(index.catalog.study_ids()))


def ask(index: Index, requested: Sequence[Code], prefix: Prefix, k: int = TOP) -> list[Answer]:
    """Answer questions, parts of the ranking cut out of them."""
    answers = []
    for understood in encode_queries(
        index, [Query(text=code.text, target="reports", k=k) for code in requested]
    ):
        if isinstance(understood, SimilarityError):
            raise understood
        answers.append(search_encoded(index, prefix(understood)))
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
    answers: Sequence[Answer], requested: Sequence[Code], codes: Mapping[str, Sequence[Code]]
) -> NDArray[np.float64]:
    """nDCG@10 of each answer; a report that was not coded is worth nothing. Twins count once, as one hit."""
    values = []
    for code, answer in zip(requested, answers, strict=True):
        got = [code.gain(codes.get(hit.case.study_id, ())) for hit in answer.hits]
        best = sorted((code.gain(summary) for summary in codes.values()), reverse=True)
        values.append(_dcg(got) / _dcg(best))
    return np.array(values)


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(position + 2) for position, gain in enumerate(gains[:TOP])))


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of a mean of paired differences, by bootstrap."""
    rng = np.random.default_rng(SEED)
    draws = rng.choice(differences, (DRAWS, len(differences))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


if __name__ == "__main__":
    main()
