"""Text towers compared on radiology reports, before text-tower pretraining and after it.

    python -m benchmarks.text_towers --data ../shared/data --tower e5=FOLDER

Queries and gallery: reports of Open-i outside the test split, hand-made gold findings the ground truth; a
report of the query's own subject is no hit. Each tower is a Hugging Face BERT: MiniLM of the packaged
recipe, and any FOLDER with `config.json`, `model.safetensors` and `tokenizer.json`. The stages:

    untrained    the tower's pooled output, mean of the windows of a report; the whole gallery
    projected    the packaged recipe's projection on it, from a regression on the labeler's findings; by folds
    pretrained   the same after the recipe's text-tower pretraining; by folds

By folds: trained on the reports of the other subjects, scored on those of the fold. `report → report` as
above; in `findings → report` the query is the location of the gold findings themselves, which is where a
perfect image tower would put the image.

The upper layers learn, as many in every tower (`--learning`). Two differences from the recipe make many
trainings fit: the layers below run once, without dropout, and attention has no dropout. Times are processor
seconds of one thread; that of an epoch is of the upper layers alone.
"""

import argparse
import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from benchmarks.machine import describe_machine
from benchmarks.real_folds import IMAGES, PAIRS, RECIPE, REPORTS
from corpus.findings import Statuses
from corpus.sources import open_source
from corpus.splits import fold_of
from corpus.statistics import BOOTSTRAP_DRAWS, draw_subjects, interval95
from corpus.truth import Truth, read_truth
from trainer.data.features import TextFeatures, encode_all
from trainer.data.items import Text, gather
from trainer.data.sampling import rarity
from trainer.data.targets import finding_vectors
from trainer.evaluation.comparison import paired_bootstrap, score_runs
from trainer.evaluation.labels import Labels
from trainer.evaluation.metrics import Scored, Task
from trainer.evaluation.ranking import Ranking, rank_vectors
from trainer.models.architecture import find_architecture
from trainer.runtime.tokens import WindowTokenizer
from trainer.train.config import FreezeConfig, TrainConfig
from trainer.train.config_file import read_config
from trainer.train.heads import (
    ITEMS,
    draw_heads,
    fold_heads,
    label_directions,
    projections,
    standardise_heads,
    start_projection,
)
from trainer.train.text_pretraining import pretrain_text_tower
from trainer.train.towers import SCRATCH, build_towers

BASELINE = "MiniLM"
METRICS = {"P@1": "precision_at.1", "macro lift@5": "lift_at_5.macro", "nDCG@10": "ndcg_at_10"}
REPORTS_TO, FINDINGS_TO = "report → report", "findings → report"
UNTRAINED, PROJECTED, PRETRAINED = "untrained", "projected", "pretrained"

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reports:
    """The distinct reports outside the test split.

    `texts`: with the labeler's findings, which training uses.
    `gold`: the gold findings of each, which scoring uses; empty without a row.
    """

    texts: tuple[Text, ...]
    gold: tuple[Statuses, ...]

    @classmethod
    def of(cls, data: Path) -> "Reports":
        """Read the texts of the packaged recipe's sources, and the gold findings of Open-i's."""
        sources = [(name, open_source(f"{name}:{data / name}")) for name in (IMAGES, REPORTS, PAIRS)]
        texts = gather(sources, "report", lambda _: None, whole=True).train.texts
        truth = read_truth(data / "openi-truth" / "openi_gold_std14.csv")
        return cls(texts, tuple(_gold(text, truth) for text in texts))

    @property
    def known(self) -> Index:
        """The reports that can match anything: with a gold finding, or normal."""
        return np.flatnonzero(Labels.of(self.gold).known)

    def fold(self, part: int, folds: int) -> tuple[Index, Index]:
        """Reports to train on and reports to score; a text of subjects on both sides is in neither."""
        inside = [{fold_of(subject, folds) == part for subject in text.subjects} for text in self.texts]
        train = np.flatnonzero([sides == {False} for sides in inside])
        return train, np.intersect1d(np.flatnonzero([sides == {True} for sides in inside]), self.known)

    def task(self, rows: Index) -> Task:
        """Each of the reports at `rows` as the query, the others as the gallery."""
        labels = Labels.of(self.gold[row] for row in rows)
        texts = [self.texts[row] for row in rows]
        owned: dict[str, list[int]] = {}
        for position, text in enumerate(texts):
            for subject in text.subjects:
                owned.setdefault(subject, []).append(position)
        own = {(a, b) for positions in owned.values() for a in positions for b in positions}
        subjects = np.array([min(text.subjects) for text in texts])
        return Task(labels, labels, subjects, np.array(sorted(own), np.int64))


def _gold(text: Text, truth: Truth) -> Statuses:
    named = sorted(study for study in text.studies if study in truth.statuses)
    return truth.statuses[named[0]] if named else {}


class _Given(nn.Module):
    """Takes the place of a transformer's embeddings: passes activations on."""

    def forward(self, inputs_embeds: Tensor, **_: Any) -> Tensor:
        """(n, length, width) activations, unchanged."""
        return inputs_embeds


class UpperLayers(TextFeatures):
    """Features of texts by a tower of which only the upper layers remain; the lower ones have run.

    Args:
        model: an open_clip model with a Hugging Face text tower; its tower is shortened.
        tokenizer: of the tower.
        texts: n texts.
        learning: number of layers that remain.
    """

    def __init__(
        self, model: nn.Module, tokenizer: WindowTokenizer, texts: Sequence[str], learning: int
    ) -> None:
        super().__init__(model, tokenizer, texts, FreezeConfig(text_layers=-1), torch.device("cpu"))
        transformer = self._text.transformer
        layers = transformer.encoder.layer
        transformer.encoder.layer = layers[: len(layers) - learning]
        flat = [torch.tensor(window) for windows in self._windows for window in windows]
        with torch.no_grad():
            lower = [
                transformer(input_ids=window[None], attention_mask=torch.ones_like(window)[None])
                for window in flat
            ]
        rest = iter(lower)
        self._activations = [
            [next(rest).last_hidden_state[0].half() for _ in windows] for windows in self._windows
        ]
        transformer.encoder.layer = layers[len(layers) - learning :]
        transformer.embeddings = _Given()
        for layer in transformer.encoder.layer:
            layer.attention.self.dropout.p = 0.0

    def only(self, rows: Index) -> "UpperLayers":
        """The features of some of the texts: text i of the result is text `rows[i]` of this."""
        some = super().only(rows)
        assert isinstance(some, UpperLayers)
        some._activations = [self._activations[row] for row in rows]
        return some

    def pooled(self) -> "UpperLayers":
        """The features of the same texts with the tower's present output cached before its projection."""
        order = np.argsort(self.lengths(np.arange(len(self._windows))), kind="stable")
        cached: list[Tensor] = [torch.empty(0)] * len(order)
        with torch.no_grad():
            for index in np.array_split(order, -(-len(order) // 32)):
                rows = iter(self._pool_windows(index))
                for text in index:
                    cached[text] = torch.stack([next(rows) for _ in self._windows[text]])
        same = copy.copy(self)
        same._cached = cached
        return same

    def features(self, index: Index) -> Tensor:
        """(m, dim) unit features of the texts at `index`: the mean of each one's windows."""
        if self._cached is not None:
            return super().features(index)
        vectors = F.normalize(self._text.proj(self._pool_windows(index)).float(), dim=-1)
        sums = torch.zeros(len(index), vectors.shape[1])
        return F.normalize(sums.index_add(0, torch.tensor(self.owners(index)), vectors), dim=-1)

    def _pool_windows(self, index: Index) -> Tensor:
        """(windows, width): the tower's output before its projection for each window of the texts."""
        windows = [window for text in index for window in self._activations[text]]
        mask = pad_sequence([torch.ones(len(window), dtype=torch.int64) for window in windows], True)
        inputs = pad_sequence(windows, True).float()
        pooled: Tensor = self._text.pooler(
            self._text.transformer(inputs_embeds=inputs, attention_mask=mask), mask
        )
        return pooled


class Tower:
    """One text tower with the activations of its lower layers, and its trainings.

    Args:
        weights: of the tower, as `--text-weights` takes them.
        reports: the texts.
        learning: number of layers that learn.
    """

    def __init__(self, weights: str, reports: Reports, learning: int) -> None:
        architecture = find_architecture("mobilenetv2-minilm")
        towers = build_towers(architecture, image_weights=SCRATCH, text_weights=weights)
        self._reports = reports
        self._model = cast(Any, towers.model.eval())
        self._dim = int(architecture.model_cfg["embed_dim"])
        tokenizer = WindowTokenizer.of_tokenizer(
            towers.tokenizer, int(architecture.model_cfg["text_cfg"]["context_length"])
        )
        projection, self._model.text.proj = self._model.text.proj, nn.Identity()
        texts = [text.text for text in reports.texts]
        began = time.process_time()
        self._texts = UpperLayers(self._model, tokenizer, texts, learning)
        self._pooled = self._texts.pooled()
        self.untrained = encode_all(self._pooled.features, len(texts))
        self.encoding_s = (time.process_time() - began) / len(texts)
        self._model.text.proj = projection
        self._start = {name: value.clone() for name, value in self._model.state_dict().items()}
        self.epoch_s: list[float] = []

    def encode(
        self, config: TrainConfig, train: Index, held_out: Index
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Train on some of the reports; encode others.

        Args:
            config: the packaged recipe; without epochs of text pretraining the projection alone is fitted.
            train: the reports to train on.
            held_out: the reports to encode.

        Returns:
            Unit vectors of the held-out reports, and the locations of their gold findings, (n, dim) each.
        """
        fold_heads(self._model)
        self._model.load_state_dict(self._start)
        draw_heads(self._model, config.seed)
        standardise_heads(self._model, config.head.drop)
        torch.manual_seed(config.seed)
        pooled, statuses = self._pooled, [self._reports.texts[row].statuses for row in train]
        targets = finding_vectors(statuses, config.targets)
        drawn = np.random.default_rng(config.seed).choice(
            len(train), ITEMS, p=rarity(statuses, config.sampling.balance)
        )
        if config.text_pretraining.epochs:
            self._project(pooled.only(train), targets, drawn, config)
            directions = label_directions(self._dim, targets.shape[1], config.seed).float()
            located = torch.from_numpy(targets) @ directions.T
            began = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=config.memory.precision == "bf16"):
                pretrain_text_tower(
                    self._texts.only(train),
                    self._model.text,
                    located,
                    rarity(statuses, config.text_pretraining.balance),
                    replace(config.text_pretraining, frozen_layers=0),  # the tower no longer has them
                    config.optimizer,
                    config.seed,
                )
            self.epoch_s.append((time.process_time() - began) / config.text_pretraining.epochs)
            self._model.eval()
            pooled = self._texts.pooled()
        targets = _with_column(targets, config.text_pretraining.shared)
        self._project(pooled.only(train), targets, drawn, config)
        gold = finding_vectors([self._reports.gold[row] for row in held_out], config.targets)
        wanted = torch.from_numpy(_with_column(gold, 0.0)).double()
        directions = label_directions(self._dim, wanted.shape[1], config.seed)
        vectors = encode_all(pooled.only(held_out).features, len(held_out))
        return vectors, (wanted @ directions.T).float().numpy()

    def _project(
        self, texts: TextFeatures, targets: NDArray[np.float32], drawn: Index, config: TrainConfig
    ) -> None:
        """Start the projection as the recipe does: a regression on the findings of the drawn texts."""
        self._model.eval()
        start_projection(
            projections(self._model)["text"],
            texts.features,
            targets,
            drawn,
            config.seed,
            config.head.text_ridge,
            texts.owners,
        )


def _with_column(vectors: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    return np.concatenate([vectors, np.full((len(vectors), 1), value, np.float32)], axis=1)


def measure(tower: Tower, reports: Reports, config: TrainConfig, folds: int, seeds: int) -> dict[Any, Scored]:
    """The scores of one tower by (stage, direction)."""
    whole = reports.task(reports.known)
    vectors = tower.untrained[reports.known]
    scored = {
        (UNTRAINED, REPORTS_TO): score_runs([whole], [[rank_vectors(vectors, vectors, whole.excluded)]])
    }
    parts = [reports.fold(part, folds) for part in range(folds)]
    tasks = [reports.task(held_out) for _, held_out in parts]
    plain = replace(config, text_pretraining=replace(config.text_pretraining, epochs=0))
    for stage, recipe in ((PROJECTED, plain), (PRETRAINED, config)):
        runs: dict[str, list[list[Ranking]]] = {REPORTS_TO: [], FINDINGS_TO: []}
        for seed in range(seeds):
            encoded = [tower.encode(replace(recipe, seed=seed), *part) for part in parts]
            for direction, ranked in runs.items():
                queries = [vectors if direction == REPORTS_TO else located for vectors, located in encoded]
                ranked.append(
                    [
                        rank_vectors(query, vectors, task.excluded)
                        for query, (vectors, _), task in zip(queries, encoded, tasks, strict=True)
                    ]
                )
        scored |= {(stage, direction): score_runs(tasks, ranked) for direction, ranked in runs.items()}
    return scored


def tabulate(title: str, scored: Mapping[str, Mapping[Any, Scored]]) -> Table:
    """Return one line per stage, direction and tower with 95 % intervals, and its difference to MiniLM."""
    table = Table(title=title)
    for heading in ("", *METRICS):
        table.add_column(heading, justify="right" if heading else "left")
    for key in scored[BASELINE]:
        for name, entries in scored.items():
            values = entries[key].metrics()
            drawn = entries[key].metrics(draw_subjects(entries[key].subjects, BOOTSTRAP_DRAWS, 0))
            cells = [f"{values[m][0]:.3f} ({_interval(interval95(drawn[m]))})" for m in METRICS.values()]
            table.add_row(f"{key[0]}, {key[1]}: {name}", *cells)
            if name != BASELINE:
                compared = paired_bootstrap(entries[key], scored[BASELINE][key], metrics=[*METRICS.values()])
                cells = [f"{d.difference:+.3f} ({_interval(d.ci95)})" for d in compared.values()]
                table.add_row(f"  difference to {BASELINE}", *cells, style="bold")
    return table


def _interval(bounds: Sequence[float] | None) -> str:
    return "–" if bounds is None else f"{bounds[0]:+.3f} … {bounds[1]:+.3f}"


def main() -> None:
    """Measure every tower and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tower", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--learning", type=int, default=4, help="upper layers that learn")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="of text pretraining; default: the recipe's")
    parser.add_argument("--bf16", action="store_true", help="pretrain in bfloat16: 1.6 times as fast")
    options = parser.parse_args()
    torch.set_num_threads(1)
    changes: dict[str, Any] = {} if options.epochs is None else {"reading.epochs": options.epochs}
    config = read_config(RECIPE, changes | {"memory.precision": "bf16" if options.bf16 else "float32"})
    weights = {BASELINE: str(find_architecture(config.arch).text_weights)}
    weights |= dict(spec.split("=", 1) for spec in options.tower)
    reports = Reports.of(options.data)
    scored: dict[str, dict[Any, Scored]] = {}
    for name, spec in weights.items():
        tower = Tower(spec, reports, options.learning)
        scored[name] = measure(tower, reports, config, options.folds, options.seeds)
        print(
            f"{name}: {1e3 * tower.encoding_s:.0f} ms of a core per report, "
            f"{np.mean(tower.epoch_s):.0f} s per epoch of text pretraining",
            flush=True,
        )
    title = f"{len(reports.known)} reports, {options.folds} folds, {options.seeds} seeds"
    Console(width=130).print(tabulate(title, scored))
    print(describe_machine())


if __name__ == "__main__":
    main()
