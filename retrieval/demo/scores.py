"""The demonstration's evaluation: the encoder on people it has never seen, beside the baselines."""

from collections.abc import Mapping
from typing import Any

from corpus.sources.phantom import PhantomSource
from retrieval.demo.page import Bar, Row, Scores, label
from retrieval.demo.progress import Tick
from trainer.evaluation.evaluate import evaluate_vectors
from trainer.evaluation.gallery import encode, gather
from trainer.runtime.encoder import Encoder

_COLUMNS = ("P@1", "P@5", "P@10", "lift@5", "nDCG@10")
_BASELINES = {
    "random": "random",
    "constant": "one constant answer",
    "normal_abnormal": "perfect normal/abnormal",
}


def evaluations(encoder: Encoder, source: PhantomSource, tick: Tick) -> list[Scores]:
    """Score film → report and film → film on a cohort; each item is encoded once."""
    films, reports = (gather(source, kind, split="all") for kind in ("image", "report"))
    encoded = [
        encode(side, encoder, lambda doing, done, of: tick(done, of, doing)) for side in (films, reports)
    ]
    asked, told = encoded
    return [
        _scores(
            "Evaluation: film to report",
            f"{len(asked.items)} films and {len(told.items)} distinct reports of people whom the encoder "
            "never saw. A hit is right where it shares a finding with the query, or both are normal.",
            evaluate_vectors(asked, told),
        ),
        _scores(
            "Evaluation: film to film",
            f"The same {len(asked.items)} films among each other, a person's own films left out.",
            evaluate_vectors(asked, asked),
        ),
    ]


def _scores(heading: str, note: str, record: Mapping[str, Any]) -> Scores:
    rows = [Row("this encoder", tuple(_with_interval(record, record["ci95"])), ours=True)]
    rows += [
        Row(title, tuple((_number(value), "") for value in _values(record["baselines"][name])))
        for name, title in _BASELINES.items()
    ]
    lifts = {
        told["finding"]: told["lift_at_5"]
        for told in record["per_finding"]
        if told["in_macro"] and told["lift_at_5"] is not None
    }
    bars = tuple(
        Bar(label(name), _number(lift), 100 * max(0.0, lift))
        for name, lift in sorted(lifts.items(), key=lambda pair: -pair[1])
    )
    return Scores(heading, _COLUMNS, tuple(rows), bars, note)


def _values(table: Mapping[str, Any]) -> list[Any]:
    precision = [table["precision_at"][k] for k in ("1", "5", "10")]
    return [*precision, table["lift_at_5"]["macro"], table["ndcg_at_10"]]


def _with_interval(record: Mapping[str, Any], intervals: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (_number(value), f"{_number(ends[0])} – {_number(ends[1])}" if ends else "")
        for value, ends in zip(_values(record), _values(intervals), strict=True)
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    # Adding 0.0 turns a rounded −0.0 into 0.0.
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
