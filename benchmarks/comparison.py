"""Losses and pairings compared on the same subjects, data, towers and steps.

    python -m benchmarks.comparison --data ../shared/data --seeds 5 --folds 5

Queries: radiographs (NIH ChestX-ray14). Gallery: reports (Open-i). Ground truth: hand-made gold findings.
Every subject outside the test split is held out once (cross-validation). The image backbone is frozen
unless --blocks says otherwise, so that hundreds of trainings fit into minutes. The rows:

    classifier     image findings by logistic regression, report findings by the labeler, ranked by agreement
    true pairs     InfoNCE on a patient's own report (covid-chestxray, the only set with pairs)
    multi-positive InfoNCE with every similar text as a positive
    DHN-NCE        on pairs that share a finding, and as published
    dot, 1         Semantic Matching as in MedCLIP's code
    five stacked   five trainings of the packaged recipe, their projections concatenated: each vector is the
                   five members' in a row, a cosine is the mean of theirs
    recipe         the packaged recipe

Differences to the packaged recipe are paired by patient (bootstrap), averaged over seeds.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.machine import describe_machine
from benchmarks.real_folds import PLAIN, folds_parser, real_folds
from corpus.findings import VOCABULARY, Status, Statuses, is_normal
from trainer.evaluation.comparison import paired_bootstrap, score_runs
from trainer.evaluation.metrics import Scored
from trainer.evaluation.ranking import Ranking
from trainer.evaluation.scoring import HEADLINE
from trainer.train.config import TrainConfig
from trainer.train.folds import CrossValidation, Fold
from trainer.train.optimizer import build_optimizer, build_schedule

LEAVES = [*VOCABULARY.leaves, "no_finding"]

Rank = Callable[[CrossValidation, TrainConfig], list[Ranking]]


@dataclass(frozen=True, slots=True)
class Row:
    """One way of training: settings that override the recipe's, or a ranking of its own."""

    name: str
    change: dict[str, Any]
    rank: Rank = CrossValidation.rank


def rows() -> list[Row]:
    """The table's rows, the packaged recipe last."""
    matched = {"sampling.pairing": "matched", "sampling.text_batch_size": 0}
    paired = {"sampling.pairing": "true", "sampling.text_batch_size": 0, "sampling.source_shares": []}
    return [
        Row("classifier + labeler, by agreement", PLAIN, rank_by_agreement),
        Row("InfoNCE, true pairs", {**PLAIN, **paired, "loss.name": "infonce"}),
        Row("InfoNCE, same-finding pairs", {**PLAIN, **matched, "loss.name": "infonce"}),
        Row("multi-positive InfoNCE", {**PLAIN, "loss.name": "multi-positive-infonce"}),
        Row("DHN-NCE, same-finding pairs", {**PLAIN, **matched, "loss.name": "dhn-nce"}),
        Row("Semantic Matching, dot / 1", {**PLAIN, "loss.temperature": 1.0, "targets.kind": "dot"}),
        Row("Semantic Matching, cosine / 0.2", PLAIN),
        Row("packaged recipe, five trainings in a row", {}, rank_in_a_row),
        Row("packaged recipe", {}),
    ]


MEMBERS = 5


def rank_in_a_row(crossed: CrossValidation, config: TrainConfig) -> list[Ranking]:
    """Train with five seeds; rank by the members' concatenated vectors, scaled to unit length."""
    seeds = range(MEMBERS * config.seed, MEMBERS * (config.seed + 1))
    members = [replace(config, seed=seed) for seed in seeds]
    return [_in_a_row(crossed, members, fold) for fold in crossed.folds]


def _in_a_row(crossed: CrossValidation, members: Sequence[TrainConfig], fold: Fold) -> Ranking:
    image_vectors, text_vectors = [], []
    for member in members:
        training = crossed.train(fold, member)
        with training.exported():
            images, texts = training.encode(fold.held_out)
        image_vectors.append(images)
        text_vectors.append(texts)
    scale = np.float32(len(members) ** -0.5)
    return fold.rank(
        np.concatenate(image_vectors, axis=1) * scale, np.concatenate(text_vectors, axis=1) * scale
    )


class FindingClassifier(nn.Module):
    """Finding logits from an encoder's image vectors."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.logits = nn.Linear(dim, len(LEAVES))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, dim) unit rows → (n, findings) logits; ten times the rows, so that logits can leave zero."""
        found: torch.Tensor = self.logits(10 * features)
        return found


def finding_targets(statuses: Sequence[Statuses]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return (n, findings) 1 where present, and whether a status is known; normal denies every finding."""
    values = np.zeros((len(statuses), len(LEAVES)), np.float32)
    known = np.zeros(values.shape, np.bool_)
    for row, item in enumerate(statuses):
        normal = is_normal(item)
        found = any(item.get(name) is Status.PRESENT for name in LEAVES[:-1])
        for column, name in enumerate(LEAVES):
            status = item.get(name)
            values[row, column] = status is Status.PRESENT
            # An image with one finding listed is taken not to have those that are not.
            known[row, column] = status in (Status.PRESENT, Status.ABSENT) or normal or found
    return values, known


def rank_by_agreement(crossed: CrossValidation, config: TrainConfig) -> list[Ranking]:
    """Train a classifier for as many steps on the same batches; rank reports by agreement with it.

    Agreement is the log-likelihood of a report's findings under the classifier's probabilities.
    """
    return [_agree(crossed, config, fold) for fold in crossed.folds]


def _agree(crossed: CrossValidation, config: TrainConfig, fold: Fold) -> Ranking:
    side = fold.prepared.train
    training = crossed.begin(config, fold)
    torch.manual_seed(config.seed)
    classifier = FindingClassifier(int(fold.prepared.towers.architecture.model_cfg["embed_dim"]))
    values, known = finding_targets([radiograph.statuses for radiograph in side.pool.images])
    model = nn.ModuleDict({"visual": training.model.visual, "classifier": classifier})
    optimizer = build_optimizer(training.model, config.optimizer)
    optimizer.add_param_group(
        {
            "params": list(classifier.parameters()),
            "lr": config.optimizer.head_rate or 1e-3,
            "weight_decay": 0.0,
        }
    )
    schedule = build_schedule(optimizer, config.optimizer.warm_up, training.steps_per_epoch * config.epochs)
    for epoch in range(config.epochs):
        for batch in training.sampler.plan(epoch):
            training.set_modes()
            logits = classifier(side.images.features(batch.images, training=True))
            each = F.binary_cross_entropy_with_logits(
                logits, torch.from_numpy(values[batch.images]), reduction="none"
            )
            mask = torch.from_numpy(known[batch.images]).float()
            optimizer.zero_grad(set_to_none=True)
            ((each * mask).sum() / mask.sum().clamp(min=1)).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip)
            optimizer.step()
            schedule.step()
    training.model.eval()
    with torch.no_grad():
        image_vectors, _ = fold.held_out.encode()
        likely = classifier(torch.from_numpy(image_vectors))
    found, _ = finding_targets([text.statuses for text in fold.held_out.pool.texts])
    yes, no = F.logsigmoid(likely), F.logsigmoid(-likely)
    agreement = yes @ torch.from_numpy(found).T + no @ torch.from_numpy(1 - found).T
    return fold.rank(np.eye(len(agreement), dtype=np.float32), agreement.numpy().T)


def main() -> None:
    """Run every row and print the table."""
    parser = folds_parser(__doc__)
    parser.add_argument("--only", default="", help="only rows with this in their name, and the recipe")
    options = parser.parse_args()
    chosen = [row for row in rows() if options.only in row.name or row.name == rows()[-1].name]
    began = time.monotonic()
    with real_folds(options) as real:
        crossed = real.crossed
        scored: dict[str, Scored] = {}
        for row in chosen:
            runs = [row.rank(crossed, real.config(row.change, seed)) for seed in range(options.seeds)]
            scored[row.name] = score_runs(crossed.tasks, runs)
            print(f"{row.name}: {time.monotonic() - began:.0f} s", flush=True)
        radiographs = sum(len(task.queries) for task in crossed.tasks)
    title = f"{radiographs} radiographs of held-out subjects, {options.folds} folds, {options.seeds} seeds"
    Console(width=130).print(tabulate(title, scored))
    print(describe_machine())


def tabulate(title: str, scored: Mapping[str, Scored]) -> Table:
    """Return one line per row, with its difference to the last row and that difference's 95 % interval."""
    table = Table(title=title)
    for heading in ("", *HEADLINE):
        table.add_column(heading, justify="right" if heading else "left")
    *_, best = scored
    for name, row in scored.items():
        compared = paired_bootstrap(row, scored[best])
        values = [compared[metric].first for metric in HEADLINE.values()]
        table.add_row(name, *("–" if value is None else f"{value:.3f}" for value in values), style="bold")
        if name != best:
            differences = (compared[metric] for metric in HEADLINE.values())
            table.add_row(
                f"  difference to {best}",
                *(
                    "–"
                    if d.difference is None or d.ci95 is None
                    else f"{d.difference:+.3f} ({d.ci95[0]:+.2f} … {d.ci95[1]:+.2f})"
                    for d in differences
                ),
            )
    return table


if __name__ == "__main__":
    main()
