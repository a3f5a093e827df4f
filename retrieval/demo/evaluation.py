"""The demonstration's evaluation: the encoder on subjects it has never seen, beside the baselines."""

from collections.abc import Mapping
from typing import Any

from corpus.progress import OnProgress
from corpus.sources.phantom import PhantomSource
from retrieval.demo.cards import label
from retrieval.demo.page import Bar, Row, Scores
from trainer.evaluation.evaluate import evaluate_vectors
from trainer.evaluation.gallery import encode, gather
from trainer.runtime.encoder import Encoder

IMAGE_TO_REPORT, IMAGE_TO_IMAGE = "image_to_report", "image_to_image"
_LEAST_LIFT = 0.1  # a finding with less lift at 5 is not retrieved
_COLUMNS = ("P@1", "P@5", "P@10", "lift@5", "nDCG@10")
_BASELINES = {
    "random": "random",
    "constant": "one constant answer",
    "normal_abnormal": "perfect normal/abnormal",
}


def evaluate(
    encoder: Encoder, source: PhantomSource, on_progress: OnProgress
) -> dict[str, Mapping[str, Any]]:
    """Evaluate image → report and image → image on a cohort; each item is encoded once.

    Returns:
        Direction → `queries` and `gallery`, how many items each has, and the record of
        `trainer.evaluation.evaluate.evaluate_vectors`.
    """
    sides = [gather(source, kind, split="all") for kind in ("image", "report")]
    images, reports = (encode(side, encoder, on_progress) for side in sides)
    return {
        name: {
            "queries": len(images.items),
            "gallery": len(gallery.items),
            **evaluate_vectors(images, gallery),
        }
        for name, gallery in ((IMAGE_TO_REPORT, reports), (IMAGE_TO_IMAGE, images))
    }


def score_tables(records: Mapping[str, Mapping[str, Any]]) -> list[Scores]:
    """The records of `evaluate` as tables of the page."""
    to_report, to_image = records[IMAGE_TO_REPORT], records[IMAGE_TO_IMAGE]
    return [
        _scores(
            "Evaluation: image to report",
            f"{to_report['queries']} radiographs and {to_report['gallery']} distinct reports of held-out "
            "patients; below each value its 95 % confidence interval over patients. A hit "
            "is relevant where it shares a finding with the query, or both are normal.",
            to_report,
        ),
        _scores(
            "Evaluation: image to image",
            f"The same {to_image['queries']} radiographs, each compared with those of other patients.",
            to_image,
        ),
    ]


def _scores(heading: str, note: str, record: Mapping[str, Any]) -> Scores:
    rows = [Row("this encoder", tuple(_with_interval(record, record["ci95"])), ours=True)]
    rows += [
        Row(title, tuple((_number(value), "") for value in _values(record["baselines"][name])))
        for name, title in _BASELINES.items()
    ]
    lifts = {
        row["finding"]: row["lift_at_5"]
        for row in record["per_finding"]
        if row["in_macro"] and row["lift_at_5"] is not None
    }
    bars = tuple(
        Bar(label(name), _number(lift), 100 * max(0.0, lift))
        for name, lift in sorted(lifts.items(), key=lambda pair: -pair[1])
    )
    not_retrieved = tuple(label(name) for name, lift in lifts.items() if lift < _LEAST_LIFT)
    return Scores(heading, _COLUMNS, tuple(rows), bars, note, not_retrieved)


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
