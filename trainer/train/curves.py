"""A run's curves as one picture: the loss by step, the scores on the people held out by epoch."""

import csv
from pathlib import Path

_SCORES = {"precision_at_1": "P@1", "ndcg_at_10": "nDCG@10", "lift_at_5": "macro lift@5"}


def draw_curves(steps: Path, metrics: Path, picture: Path) -> None:
    """Draw the curves of a run as far as it has come.

    Args:
        steps: CSV with a row a step: `step`, `loss`.
        metrics: CSV with a row an epoch: `step`, the mean loss and the scores, empty where not measured.
        picture: the PNG to write, at once.

    Raises:
        OSError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    taken, scored = _rows(steps), _rows(metrics)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    losses.plot([int(r["step"]) for r in taken], [float(r["loss"]) for r in taken], color="0.75", lw=0.8)
    losses.plot([int(r["step"]) for r in scored], [float(r["loss"]) for r in scored], "o-", ms=3)
    losses.set(title="loss by step; dots: mean of an epoch", xlabel="step")
    for column, name in _SCORES.items():
        points = [(int(row["epoch"]), float(row[column])) for row in scored if row[column]]
        if points:
            scores.plot(*zip(*points, strict=True), "o-", ms=3, label=name)
    scores.set(title="people held out for tuning", xlabel="epoch")
    if scores.lines:
        scores.legend(frameon=False)
    for axes in (losses, scores):
        axes.spines[["top", "right"]].set_visible(False)
    unfinished = picture.with_suffix(".writing")
    figure.savefig(unfinished, format="png", dpi=110)
    unfinished.replace(picture)


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))
