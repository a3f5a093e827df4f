"""Evaluation: an encoder's answers on people it has never seen, by the contract's metrics.

`evaluate` goes from sources to the record that `similarity evaluate --json` prints; `evaluate_vectors` is its
second half, for vectors that come from elsewhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EvaluationError, UsageError
from corpus.records import Source
from corpus.truth import Truth
from trainer.gallery import (
    Embedder,
    Encoded,
    Item,
    KindChoice,
    Progress,
    Side,
    SplitChoice,
    describe_side,
    encode,
    gather,
)
from trainer.groups import group_items, score_groups
from trainer.metrics import Labels, Pairs, Scored, Task, no_pairs, rank_vectors
from trainer.scoring import BOOTSTRAP_DRAWS, score_ranking
from trainer.seen import count_seen


class RecordedEmbedder(Embedder, Protocol):
    """An embedder that says who it is and whom it has seen; `trainer.encoder.Encoder` is one."""

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
    seed: int = 0,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure an encoder: queries from one source, answers from another.

    Items are those of subjects in `split`, each identical text or picture once. Those without a known
    finding that are not normal can match nothing: they are dropped and counted, on both sides. Between
    items of one kind a query's own subject is never an answer; across kinds it is, and recall is measured.

    Args:
        encoder: what to measure.
        queries: where the queries come from.
        gallery: where the answers come from.
        query_kind: `image` or `report`; `auto` is what the source holds, images where it holds both.
        gallery_kind: the same; `auto` is reports where the source holds both.
        truth: replaces the statuses of the side (or sides) whose studies it names, for scoring only.
        split: `train`, `val`, `test` or `all`.
        allow_seen: score also people whom the encoder was trained on; they are counted either way.
        seed: of the bootstrap and the random baselines.
        on_progress: called with what is being done, items done, items in all.

    Returns:
        The record, as `docs/contracts/evaluate.schema.json` describes it.

    Raises:
        UsageError: a source holds nothing of the kind, or the truth table names neither side.
        EvaluationError: the encoder has seen some of the people, or a side has nothing to score.
        CorpusError: a source cannot be read.
        EncoderError: the encoder refuses an item, or its record is damaged.
    """
    asked = gather(queries, query_kind, prefer="image", split=split, truth=truth)
    held = gather(gallery, gallery_kind, prefer="report", split=split, truth=truth)
    if truth is not None and not (asked.under_truth or held.under_truth):
        raise UsageError(
            f"the truth table names none of the studies of {asked.source} or {held.source}: its ids are "
            f"like {next(iter(truth.statuses))!r}; a study id is <source>:<the set's own name>"
        )
    for side, role in ((asked, "queries"), (held, "gallery")):
        _require_items(side, side.items, role, split)
    seen = count_seen(encoder.record, asked.subjects | held.subjects)
    if seen and not allow_seen:
        raise EvaluationError(
            f"{encoder.name} was trained on {seen} of the {len(asked.subjects | held.subjects)} people in "
            "this evaluation: take --split test, or say --allow-seen and do not compare the numbers"
        )
    encoded_queries = encode(asked, encoder, on_progress)
    encoded_gallery = encode(held, encoder, on_progress)
    for side, encoded, role in ((asked, encoded_queries, "queries"), (held, encoded_gallery, "gallery")):
        _require_items(side, encoded.items, role, split)
    return {
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint},
        "split": split,
        "queries": describe_side(asked, encoded_queries),
        "gallery": describe_side(held, encoded_gallery),
        "truth": None if truth is None else _describe_truth(truth),
        "seen_subjects": seen,
        **evaluate_vectors(encoded_queries, encoded_gallery, seed=seed),
    }


def evaluate_vectors(
    queries: Encoded,
    gallery: Encoded,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    baselines: bool = True,
) -> dict[str, Any]:
    """Score vectors that are already made.

    Returns:
        As `trainer.scoring.score_ranking`, and `per_group` as `trainer.groups.score_groups`.
    """
    task = make_task(queries.items, gallery.items)
    ranking = rank_vectors(queries.vectors, gallery.vectors, task.excluded)
    groups = group_items(queries.items)
    return {
        **score_ranking(ranking, task, seed=seed, draws=draws, baselines=baselines),
        "per_group": score_groups(Scored.of(ranking, task), groups, seed=seed, draws=draws),
    }


def make_task(queries: Sequence[Item], gallery: Sequence[Item]) -> Task:
    """Say what is asked, what is held, what may not be answered and what belongs together."""
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
    """Return the (query, gallery) indices that have a key in common."""
    places: dict[Any, list[int]] = {}
    for index, keys in enumerate(gallery):
        for key in keys:
            places.setdefault(key, []).append(index)
    rows = [
        (index, other)
        for index, keys in enumerate(queries)
        for other in sorted({place for key in keys for place in places.get(key, ())})
    ]
    pairs: NDArray[np.int64] = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return pairs


def _require_items(side: Side, items: Sequence[Item], role: str, split: str) -> None:
    if items:
        return
    raise EvaluationError(
        f"the {role} from {side.source} are empty: of {side.found} {side.kind}s in the split {split!r} "
        f"{side.dropped} have no known finding and {len(side.items)} cannot be read; "
        "take another --split, or give --truth"
    )


def _describe_truth(truth: Truth) -> dict[str, Any]:
    return {
        "studies": len(truth.statuses),
        "findings": list(truth.findings),
        "ignored_columns": list(truth.ignored),
        "bad_rows": list(truth.bad_rows),
    }
