"""MedCLIP's two claims: decoupling relieves scarcity of pairs, semantic targets relieve false negatives.

    python -m benchmarks.claims --data ../shared/data --seeds 5 --pictures docs

Queries: radiographs (NIH ChestX-ray14). Gallery: reports (Open-i). Ground truth: gold findings. Every subject
outside the test split is held out once; the image backbone is frozen. The pairs are covid-chestxray's images
with their notes.

1. Scarcity: quality against the share of pairs retained, with and without the image-only (NIH) and the
   text-only (Open-i) set.
2. False negatives: the share of a batch's negatives that have a finding in common; mean rank and cosine of
   the reports that share a finding with an image, after InfoNCE and after Semantic Matching.
3. Noise: quality with a share of the images' labels exchanged for another image's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.real_folds import PAIRS, PLAIN, RealFolds, folds_parser, real_folds
from corpus.splits import fold_of
from trainer.data.items import Pool
from trainer.data.sampling import Sampler
from trainer.evaluation.comparison import score_runs
from trainer.evaluation.labels import Labels
from trainer.evaluation.scoring import HEADLINE
from trainer.train.folds import CrossValidation, Fold
from trainer.train.preparation import PreparedSplit

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
NOISE = (0.0, 0.1, 0.2, 0.4)
TRUE_PAIRS = {
    **PLAIN,
    "loss.name": "infonce",
    "sampling.pairing": "true",
    "sampling.text_batch_size": 0,
    "sampling.source_shares": [],
}
MATCHED = {**PLAIN, "loss.name": "infonce", "sampling.pairing": "matched", "sampling.text_batch_size": 0}
SEMANTIC = dict(PLAIN)
FEW = {"sampling.text_batch_size": 0, "sampling.source_shares": []}
_FEW = 64  # images in a batch of pairs, fewer where there are not so many
_PARTS = 1000

Numbers = dict[str, tuple[float, float]]
"""Metric → mean over seeds, and the standard deviation between them."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One curve's point."""

    curve: str
    at: float
    values: Numbers


def measure(real: RealFolds, folds: Sequence[Fold], change: dict[str, Any], seeds: int) -> Numbers:
    """Train on each fold with each seed; score all folds together, seed by seed."""
    by_seed = []
    for seed in range(seeds):
        rankings = real.crossed.rank(real.config(change, seed), folds=folds)
        metrics = score_runs(real.crossed.tasks, [rankings]).metrics()
        by_seed.append({name: float(metrics[metric][0]) for name, metric in HEADLINE.items()})
    return {
        name: (float(np.mean([m[name] for m in by_seed])), float(np.std([m[name] for m in by_seed])))
        for name in HEADLINE
    }


def with_sides(crossed: CrossValidation, change: Callable[[PreparedSplit], PreparedSplit]) -> list[Fold]:
    """Return the folds with their training splits changed."""
    return [
        replace(fold, prepared=replace(fold.prepared, train=change(fold.prepared.train)))
        for fold in crossed.folds
    ]


def pairs_only(side: PreparedSplit, share: float, others: bool) -> PreparedSplit:
    """Keep a share of the subjects with pairs, and of the unpaired sets all or nothing."""

    def selected(study: str, subject: str) -> bool:
        if not study.startswith(f"{PAIRS}:"):
            return others
        return fold_of(f"pairs {subject}", _PARTS) < share * _PARTS

    radiographs = [selected(radiograph.study_id, radiograph.subject_id) for radiograph in side.pool.images]
    texts = [
        any(selected(study, subject) for study in text.studies for subject in text.subjects)
        for text in side.pool.texts
    ]
    return side.only(np.flatnonzero(radiographs), np.flatnonzero(texts))


def scarcity(real: RealFolds, seeds: int) -> list[Measured]:
    """Quality by the share of pairs."""
    ways = (
        ("InfoNCE, pairs alone", TRUE_PAIRS, False),
        ("Semantic Matching, pairs alone", {**SEMANTIC, **FEW}, False),
        ("Semantic Matching, with unpaired sets", SEMANTIC, True),
    )
    points = []
    for name, change, others in ways:
        for share in SHARES:
            folds = with_sides(real.crossed, partial(pairs_only, share=share, others=others))
            sides = [fold.prepared.train.pool for fold in folds]
            fewest = min(len(items) for pool in sides for items in (pool.images, pool.texts))
            settings = change if others else {**change, "sampling.batch_size": min(_FEW, fewest)}
            points.append(Measured(name, share, measure(real, folds, settings, seeds)))
    return points


def noise(real: RealFolds, seeds: int) -> list[Measured]:
    """Quality by the share of images with exchanged labels."""
    ways = (("InfoNCE, same-finding pairs", MATCHED), ("Semantic Matching", SEMANTIC))
    points = []
    for name, change in ways:
        for share in NOISE:
            folds = with_sides(real.crossed, partial(exchanged, share=share))
            points.append(Measured(name, share, measure(real, folds, change, seeds)))
    return points


def exchanged(side: PreparedSplit, share: float) -> PreparedSplit:
    """Give a share of the images the labels of another image."""
    rng = np.random.default_rng(0)
    radiographs = list(side.pool.images)
    chosen = np.flatnonzero(rng.random(len(radiographs)) < share)
    for row, other in zip(chosen, rng.permutation(chosen), strict=True):
        radiographs[row] = replace(radiographs[row], statuses=side.pool.images[other].statuses)
    return replace(side, pool=Pool(tuple(radiographs), side.pool.texts))


def false_negative_share(crossed: CrossValidation, batch_size: int) -> float:
    """Return the share of false negatives: negatives of true pairs that share a finding with the image."""
    false_negatives, negatives = 0.0, 0
    for fold in crossed.folds:
        pool = fold.prepared.train.pool
        radiographs = Labels.of(radiograph.statuses for radiograph in pool.images)
        texts = Labels.of(text.statuses for text in pool.texts)
        for batch in Sampler(pool, "true", batch_size, 0, 0.0, 0).plan(0):
            similar = share_something(radiographs.take(batch.images), texts.take(batch.texts))
            own = np.zeros_like(similar)
            own[batch.pairs[:, 0], batch.pairs[:, 1]] = True
            false_negatives += float((similar & ~own).sum())
            negatives += int((~own).sum())
    return false_negatives / negatives


def share_something(left: Labels, right: Labels) -> NDArray[np.bool_]:
    """Return (n, m) whether two items have a finding in common or are both normal."""
    both = left.present.astype(np.float32) @ right.present.T.astype(np.float32)
    similar: NDArray[np.bool_] = (both > 0) | (left.normal[:, None] & right.normal[None, :])
    return similar


def rank_and_cosine(real: RealFolds, seeds: int) -> list[tuple[str, float, float, float]]:
    """Return rows of mean rank and cosine of held-out pairs that share a finding, and cosine of the others.

    Ranks are shares of the gallery: 0 first, 1 last.
    """
    rows = []
    for name, change in (("InfoNCE, true pairs", TRUE_PAIRS), ("Semantic Matching", SEMANTIC)):
        rows_of_folds = []
        for seed in range(seeds):
            for fold in real.crossed.folds:
                with real.crossed.train(fold, real.config(change, seed)).exported():
                    radiographs, texts = fold.held_out.encode()
                similarities = radiographs @ texts.T
                similar = share_something(fold.task.queries, fold.task.gallery)
                ranks = (-similarities).argsort(axis=1).argsort(axis=1) / (similarities.shape[1] - 1)
                of_similar, of_others = similarities[similar], similarities[~similar]
                rows_of_folds.append((ranks[similar].mean(), of_similar.mean(), of_others.mean()))
        mean = np.mean(rows_of_folds, axis=0)
        rows.append((name, float(mean[0]), float(mean[1]), float(mean[2])))
    return rows


def draw(points: Sequence[Measured], label: str, title: str, figure_file: Path) -> None:
    """Draw one panel per metric, one line per curve; bars: one standard deviation between seeds."""
    metrics = [name for name in HEADLINE if not name.endswith("5") or name.startswith("lift")]
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = figure.subplots(1, len(metrics))
    for axes, name in zip(panels, metrics, strict=True):
        for curve in dict.fromkeys(point.curve for point in points):
            own = [point for point in points if point.curve == curve]
            axes.errorbar(
                [100 * point.at for point in own],
                [point.values[name][0] for point in own],
                [point.values[name][1] for point in own],
                fmt="o-", ms=3, capsize=2, label=curve,
            )  # fmt: skip
        axes.set(title=name.replace("_", " "), xlabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    figure.savefig(figure_file, dpi=110)


def draw_rank_and_cosine(
    rows: Sequence[tuple[str, float, float, float]], share: float, figure_file: Path
) -> None:
    """Draw mean rank of similar reports, and cosines of similar and other pairs, a bar per loss."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [row[0] for row in rows]
    left.barh(names, [100 * row[1] for row in rows], color=["0.7", "C0"])
    left.axvline(50, color="0.3", lw=0.8, ls=":")
    left.set(title="mean rank of similar reports, % of the gallery (chance 50)")
    positions = np.arange(len(rows))
    right.barh(positions - 0.18, [row[2] for row in rows], 0.34, label="have a finding in common")
    right.barh(positions + 0.18, [row[3] for row in rows], 0.34, label="have none", color="0.7")
    right.set(title="mean cosine of image and report, held-out subjects", yticks=positions, yticklabels=names)
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{100 * share:.0f} % of the negatives in batches of 64 true pairs share a finding")
    figure.savefig(figure_file, dpi=110)


def tabulate(points: Sequence[Measured], title: str) -> Table:
    """Return one line per point."""
    table = Table(title=title)
    for heading in ("", "share", *HEADLINE):
        table.add_column(heading, justify="right" if heading else "left")
    for point in points:
        numbers = (f"{mean:.3f} ± {spread:.3f}" for mean, spread in point.values.values())
        table.add_row(point.curve, f"{100 * point.at:.0f} %", *numbers)
    return table


def main() -> None:
    """Measure all three, print the tables, draw the plots."""
    parser = folds_parser(__doc__)
    parser.add_argument(
        "--pictures", dest="plots", type=Path, default=Path("docs"), help="where the three plots go"
    )
    options = parser.parse_args()
    console = Console(width=120)
    options.plots.mkdir(parents=True, exist_ok=True)
    with real_folds(options) as real:
        share = false_negative_share(real.crossed, 64)
        similar_pairs = rank_and_cosine(real, options.seeds)
        table = Table(title=f"false negatives: {100 * share:.1f} % of a batch's negatives share a finding")
        for heading in ("", "mean rank of similar reports", "cosine, similar", "cosine, others"):
            table.add_column(heading)
        for row in similar_pairs:
            table.add_row(row[0], *(f"{value:.3f}" for value in row[1:]))
        console.print(table)
        draw_rank_and_cosine(similar_pairs, share, options.plots / "false-negatives.png")
        scarce = scarcity(real, options.seeds)
        console.print(tabulate(scarce, "scarcity of pairs"))
        draw(
            scarce,
            "pairs retained, %",
            "Scarcity: with few pairs, unpaired sets carry",
            options.plots / "scarcity.png",
        )
        noisy = noise(real, options.seeds)
        console.print(tabulate(noisy, "labels exchanged"))
        draw(noisy, "labels exchanged, %", "Wrong labels", options.plots / "label-noise.png")
    console.print(describe_machine(), highlight=False)


if __name__ == "__main__":
    main()
