"""Evaluation of an encoder on held-out subjects, by the metrics of the contract.

`evaluate` goes from sources to the record of `similarity evaluate --json`; `evaluate_vectors` scores existing
vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EvaluationError, UsageError
from corpus.progress import OnProgress, silent
from corpus.records import Source
from corpus.statistics import BOOTSTRAP_DRAWS
from corpus.truth import Truth
from trainer.evaluation.comparison import describe_differences, paired_bootstrap
from trainer.evaluation.gallery import (
    Balance,
    Embedder,
    Encoded,
    EvaluationSet,
    Item,
    KindChoice,
    SplitChoice,
    balance,
    describe_set,
    encode,
    gather,
)
from trainer.evaluation.labels import Labels
from trainer.evaluation.metrics import Scored, Task
from trainer.evaluation.ranking import Pairs, no_pairs, rank_vectors
from trainer.evaluation.scoring import score_ranking
from trainer.evaluation.subgroups import group_items, score_groups
from trainer.evaluation.zero_shot import score_zero_shot
from trainer.runtime.training_overlap import count_training_overlap


class RecordedEmbedder(Embedder, Protocol):
    """An embedder with its identity and training record; `trainer.runtime.encoder.Encoder` is one."""

    name: str
    fingerprint: str
    record: Mapping[str, Any]


def evaluate(
    encoder: RecordedEmbedder,
    queries: Source,
    gallery: Source,
    *,
    query_kind: KindChoice = "auto",
    gallery_kind: KindChoice = "auto",
    truth: Truth | None = None,
    split: SplitChoice = "test",
    allow_seen: bool = False,
    per_class: int | None = None,
    against: RecordedEmbedder | None = None,
    zero_shot: bool = False,
    probe: bool = False,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> dict[str, Any]:
    """Evaluate an encoder: queries from one source, gallery from another.

    Items are those of subjects in `split`; identical texts or images count once. Items without a known
    finding that are not normal match nothing: they are dropped and counted, on both sides. Between items of
    one kind the query's own subject is excluded; across kinds it is not, and recall is measured.

    Args:
        encoder: the encoder.
        queries: source of the queries.
        gallery: source of the gallery.
        query_kind: `image` or `report`; `auto` is what the source holds, images where it holds both.
        gallery_kind: the same; `auto` is reports where the source holds both.
        truth: ground truth; replaces the statuses of the studies that it names, for scoring only.
        split: `train`, `val`, `test` or `all`.
        allow_seen: also score subjects of an encoder's training; the overlap is counted in any case.
        per_class: items of each class to draw on both sides (`gallery.balance`); None takes all.
        against: another encoder, compared on the same queries (`trainer.evaluation.comparison`).
        zero_shot: also classify the images by prompts (`trainer.evaluation.zero_shot`): the queries, or the
            gallery where the queries are reports.
        probe: also probe the same images (`trainer.evaluation.probe`), trained on the train split of their
            source; needs `split="test"`.
        seed: of the bootstrap, the random baselines and the draw of `per_class`.
        on_progress: called with a description, items done, items in all.

    Returns:
        The record, as `docs/contracts/evaluate.schema.json` describes it.

    Raises:
        UsageError: a source holds nothing of the kind, or the ground truth names neither side, or there are
            no images to classify, or a probe is requested on another split.
        EvaluationError: an encoder was trained on some of the subjects, or a side has nothing to score, or
            too little to balance, probe or compare.
        CorpusError: a source cannot be read.
        EncoderError: an encoder refuses an item, or its record is damaged.
    """
    if probe:
        check_probe_split(split)
    query_set = gather(queries, query_kind, prefer="image", split=split, truth=truth)
    gallery_set = gather(gallery, gallery_kind, prefer="report", split=split, truth=truth)
    if truth is not None and not (query_set.under_truth or gallery_set.under_truth):
        raise UsageError(
            f"the truth table names none of the studies of {query_set.source} or {gallery_set.source}: "
            f"its ids are like {next(iter(truth.statuses))!r}; a study id is <source>:<the set's own name>"
        )
    if (zero_shot or probe) and "image" not in (query_set.kind, gallery_set.kind):
        raise UsageError(
            "both sides are reports: --zero-shot and --probe classify images; name a source that holds "
            "some, or say --query-kind image"
        )
    for side, role in ((query_set, "queries"), (gallery_set, "gallery")):
        _require_items(side, side.items, role, split)
    subjects = query_set.subjects | gallery_set.subjects
    overlap = _require_no_overlap(encoder, subjects, allow_seen)
    other_overlap = 0 if against is None else _require_no_overlap(against, subjects, allow_seen)
    answer = _answer(encoder, query_set, gallery_set, per_class, seed, on_progress)
    for side, encoded, role in (
        (query_set, answer.queries, "queries"),
        (gallery_set, answer.gallery, "gallery"),
    ):
        _require_items(side, encoded.items, role, split)
    images, image_source = (
        (answer.queries, queries) if query_set.kind == "image" else (answer.gallery, gallery)
    )
    return {
        "encoder": _describe_encoder(encoder),
        "split": split,
        "queries": describe_set(query_set, answer.queries),
        "gallery": describe_set(gallery_set, answer.gallery),
        "truth": None if truth is None else _describe_truth(truth),
        "per_class": None if answer.balance is None else _describe_balance(answer.balance),
        "seen_subjects": overlap,
        **evaluate_vectors(answer.queries, answer.gallery, seed=seed),
        "against": None
        if against is None
        else {
            "encoder": _describe_encoder(against),
            "seen_subjects": other_overlap,
            "metrics": _compare(
                answer, _answer(against, query_set, gallery_set, per_class, seed, on_progress), seed
            ),
        },
        "zero_shot": score_zero_shot(images, encoder, seed=seed) if zero_shot else None,
        "probe": _probe(encoder, images, image_source, truth, seed, on_progress) if probe else None,
    }


def check_probe_split(split: SplitChoice) -> None:
    """Refuse to probe subjects of a probe's training.

    Raises:
        UsageError: the split is not `test`.
    """
    if split != "test":
        raise UsageError(
            f"a probe learns from the train split and is tuned on val: on {split!r} it cannot be measured; "
            "take --split test, or leave out --probe"
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    """Queries and gallery, encoded by one encoder."""

    queries: Encoded
    gallery: Encoded
    balance: Balance | None

    @property
    def ids(self) -> tuple[list[str], list[str]]:
        """Item ids of the queries and of the gallery."""
        return [item.item_id for item in self.queries.items], [item.item_id for item in self.gallery.items]


def _answer(
    encoder: Embedder,
    query_set: EvaluationSet,
    gallery_set: EvaluationSet,
    per_class: int | None,
    seed: int,
    on_progress: OnProgress,
) -> _Answer:
    queries, gallery = encode(query_set, encoder, on_progress), encode(gallery_set, encoder, on_progress)
    if per_class is None or not (queries.items and gallery.items):
        return _Answer(queries, gallery, None)
    return _Answer(*balance(queries, gallery, per_class, seed=seed))


def _compare(first: _Answer, second: _Answer, seed: int) -> dict[str, Any]:
    if first.ids != second.ids:
        raise EvaluationError(
            "the two encoders could not read the same items, so their answers cannot be compared in pairs; "
            "repair the images that the log names, and evaluate again"
        )
    task = make_task(first.queries.items, first.gallery.items)
    scored = [
        Scored.of(rank_vectors(side.queries.vectors, side.gallery.vectors, task.excluded), task)
        for side in (first, second)
    ]
    return describe_differences(paired_bootstrap(*scored, seed=seed))


def _probe(
    encoder: Embedder,
    images: Encoded,
    source: Source,
    truth: Truth | None,
    seed: int,
    on_progress: OnProgress,
) -> dict[str, Any]:
    from trainer.evaluation.probe import (  # imports torch, which wrong usage need not wait for
        score_probe,
        train_probe,
    )

    train, val = (
        encode(gather(source, "image", split=split, truth=truth), encoder, on_progress)
        for split in ("train", "val")
    )
    for part, split in ((train, "train"), (val, "val")):
        if not part.items:
            raise EvaluationError(
                f"{source.name} has no image with a known finding in the split {split!r}: a probe learns "
                "from train and is tuned on val; leave out --probe"
            )
    scores = score_probe(train_probe(train, val), images, seed=seed)
    return {"train_pictures": len(train.items), "val_pictures": len(val.items), **scores}


def _require_no_overlap(encoder: RecordedEmbedder, subjects: frozenset[str], allowed: bool) -> int:
    overlap = count_training_overlap(encoder.record, subjects)
    if overlap and not allowed:
        raise EvaluationError(
            f"{encoder.name} was trained on {overlap} of the {len(subjects)} subjects in "
            "this evaluation: take --split test, or say --allow-seen and do not compare the numbers"
        )
    return overlap


def evaluate_vectors(
    queries: Encoded,
    gallery: Encoded,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    baselines: bool = True,
) -> dict[str, Any]:
    """Score encoded queries against an encoded gallery.

    Returns:
        The record of `trainer.evaluation.scoring.score_ranking`, and `per_group`, the rows of
        `trainer.evaluation.subgroups.score_groups`.
    """
    task = make_task(queries.items, gallery.items)
    ranking = rank_vectors(queries.vectors, gallery.vectors, task.excluded)
    groups = group_items(queries.items)
    return {
        **score_ranking(ranking, task, seed=seed, draws=draws, baselines=baselines),
        "per_group": score_groups(Scored.of(ranking, task), groups, seed=seed, draws=draws),
    }


def make_task(queries: Sequence[Item], gallery: Sequence[Item]) -> Task:
    """The task: labels of both sides, excluded pairs (the query's own subject), true pairs (of one study)."""
    excluded, true_pairs = no_pairs(), None
    if queries[0].kind == gallery[0].kind:
        excluded = _pairs([item.owners for item in queries], [item.owners for item in gallery])
    else:
        pairs = _pairs([item.study_ids for item in queries], [item.study_ids for item in gallery])
        true_pairs = pairs if len(pairs) else None
    return Task(
        Labels.of(item.statuses for item in queries),
        Labels.of(item.statuses for item in gallery),
        np.array([item.study.subject_id for item in queries]),
        excluded,
        true_pairs,
    )


def _pairs(queries: Sequence[frozenset[Any]], gallery: Sequence[frozenset[Any]]) -> Pairs:
    """The (query, gallery) indices with a key in common."""
    positions: dict[Any, list[int]] = {}
    for index, keys in enumerate(gallery):
        for key in keys:
            positions.setdefault(key, []).append(index)
    rows = [
        (index, other)
        for index, keys in enumerate(queries)
        for other in sorted({position for key in keys for position in positions.get(key, ())})
    ]
    pairs: NDArray[np.int64] = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return pairs


def _require_items(side: EvaluationSet, items: Sequence[Item], role: str, split: str) -> None:
    if items:
        return
    raise EvaluationError(
        f"the {role} from {side.source} are empty: of {side.found} {side.kind}s in the split {split!r} "
        f"{side.dropped} have no known finding and {len(side.items)} cannot be read; "
        "take another --split, or give --truth"
    )


def _describe_encoder(encoder: RecordedEmbedder) -> dict[str, Any]:
    return {"name": encoder.name, "fingerprint": encoder.fingerprint}


def _describe_balance(drawn: Balance) -> dict[str, Any]:
    return {
        "items": drawn.per_class,
        "classes": list(drawn.classes),
        "left_out": [
            {"finding": name, "queries": query_set, "gallery": gallery_set}
            for name, (query_set, gallery_set) in drawn.too_few.items()
        ],
    }


def _describe_truth(truth: Truth) -> dict[str, Any]:
    return {
        "studies": len(truth.statuses),
        "findings": list(truth.findings),
        "ignored_columns": list(truth.ignored),
        "bad_rows": list(truth.bad_rows),
    }
