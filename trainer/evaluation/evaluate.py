"""Evaluation: an encoder's answers on people it has never seen, by the contract's metrics.

`evaluate` goes from sources to the record that `similarity evaluate --json` prints; `evaluate_vectors` is its
second half, for vectors that come from elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.errors import EvaluationError, UsageError
from corpus.records import Source
from corpus.truth import Truth
from trainer.evaluation.comparison import describe_differences, paired_bootstrap
from trainer.evaluation.gallery import (
    Balance,
    Embedder,
    Encoded,
    Item,
    KindChoice,
    Progress,
    Side,
    SplitChoice,
    balance,
    describe_side,
    encode,
    gather,
)
from trainer.evaluation.labels import Labels
from trainer.evaluation.metrics import Scored, Task
from trainer.evaluation.ranking import Pairs, no_pairs, rank_vectors
from trainer.evaluation.scoring import BOOTSTRAP_DRAWS, score_ranking
from trainer.evaluation.subgroups import group_items, score_groups
from trainer.evaluation.zero_shot import score_zero_shot
from trainer.runtime.training_overlap import count_seen


class RecordedEmbedder(Embedder, Protocol):
    """An embedder that says who it is and whom it has seen; `trainer.runtime.encoder.Encoder` is one."""

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
        allow_seen: score also people whom an encoder was trained on; they are counted either way.
        per_class: how many items of each class to draw on both sides (`gallery.balance`); None takes all.
        against: another encoder that answers the same queries, to compare with
        (`trainer.evaluation.comparison`).
        zero_shot: classify the pictures by prompts, too (`trainer.evaluation.zero_shot`): the queries, or the
            gallery where the queries are reports.
        probe: probe the same pictures, too (`trainer.evaluation.probe`), learning from the train split of
            their source; takes `split="test"`.
        seed: of the bootstrap, the random baselines and the draw of `per_class`.
        on_progress: called with what is being done, items done, items in all.

    Returns:
        The record, as `docs/contracts/evaluate.schema.json` describes it.

    Raises:
        UsageError: a source holds nothing of the kind, or the truth table names neither side, or pictures
            are to be classified and there are none, or a probe is asked of another split.
        EvaluationError: an encoder has seen some of the people, or a side has nothing to score, or too
            little to balance, probe or compare.
        CorpusError: a source cannot be read.
        EncoderError: an encoder refuses an item, or its record is damaged.
    """
    if probe:
        check_probe_split(split)
    asked = gather(queries, query_kind, prefer="image", split=split, truth=truth)
    held = gather(gallery, gallery_kind, prefer="report", split=split, truth=truth)
    if truth is not None and not (asked.under_truth or held.under_truth):
        raise UsageError(
            f"the truth table names none of the studies of {asked.source} or {held.source}: its ids are "
            f"like {next(iter(truth.statuses))!r}; a study id is <source>:<the set's own name>"
        )
    if (zero_shot or probe) and "image" not in (asked.kind, held.kind):
        raise UsageError(
            "both sides are reports: --zero-shot and --probe classify pictures; name a source that holds "
            "some, or say --query-kind image"
        )
    for side, role in ((asked, "queries"), (held, "gallery")):
        _require_items(side, side.items, role, split)
    people = asked.subjects | held.subjects
    seen = _count_seen(encoder, people, allow_seen)
    seen_by_other = 0 if against is None else _count_seen(against, people, allow_seen)
    answer = _answer(encoder, asked, held, per_class, seed, on_progress)
    for side, encoded, role in ((asked, answer.queries, "queries"), (held, answer.gallery, "gallery")):
        _require_items(side, encoded.items, role, split)
    pictures, shown = (answer.queries, queries) if asked.kind == "image" else (answer.gallery, gallery)
    return {
        "encoder": _describe_encoder(encoder),
        "split": split,
        "queries": describe_side(asked, answer.queries),
        "gallery": describe_side(held, answer.gallery),
        "truth": None if truth is None else _describe_truth(truth),
        "per_class": None if answer.balance is None else _describe_balance(answer.balance),
        "seen_subjects": seen,
        **evaluate_vectors(answer.queries, answer.gallery, seed=seed),
        "against": None
        if against is None
        else {
            "encoder": _describe_encoder(against),
            "seen_subjects": seen_by_other,
            "metrics": _compare(answer, _answer(against, asked, held, per_class, seed, on_progress), seed),
        },
        "zero_shot": score_zero_shot(pictures, encoder, seed=seed) if zero_shot else None,
        "probe": _probe(encoder, pictures, shown, truth, seed, on_progress) if probe else None,
    }


def check_probe_split(split: SplitChoice) -> None:
    """Refuse to probe people that a probe learns from.

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
    """Both sides as one encoder sees them."""

    queries: Encoded
    gallery: Encoded
    balance: Balance | None

    @property
    def ids(self) -> tuple[list[str], list[str]]:
        """What was asked and held."""
        return [item.item_id for item in self.queries.items], [item.item_id for item in self.gallery.items]


def _answer(
    encoder: Embedder,
    asked: Side,
    held: Side,
    per_class: int | None,
    seed: int,
    on_progress: Progress | None,
) -> _Answer:
    queries, gallery = encode(asked, encoder, on_progress), encode(held, encoder, on_progress)
    if per_class is None or not (queries.items and gallery.items):
        return _Answer(queries, gallery, None)
    return _Answer(*balance(queries, gallery, per_class, seed=seed))


def _compare(first: _Answer, second: _Answer, seed: int) -> dict[str, Any]:
    if first.ids != second.ids:
        raise EvaluationError(
            "the two encoders could not read the same items, so their answers cannot be compared in pairs; "
            "repair the pictures that the log names, and evaluate again"
        )
    task = make_task(first.queries.items, first.gallery.items)
    scored = [
        Scored.of(rank_vectors(side.queries.vectors, side.gallery.vectors, task.excluded), task)
        for side in (first, second)
    ]
    return describe_differences(paired_bootstrap(*scored, seed=seed))


def _probe(
    encoder: Embedder,
    pictures: Encoded,
    source: Source,
    truth: Truth | None,
    seed: int,
    on_progress: Progress | None,
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
                f"{source.name} has no picture with a known finding in the split {split!r}: a probe learns "
                "from train and is tuned on val; leave out --probe"
            )
    scores = score_probe(train_probe(train, val), pictures, seed=seed)
    return {"train_pictures": len(train.items), "val_pictures": len(val.items), **scores}


def _count_seen(encoder: RecordedEmbedder, people: frozenset[str], allowed: bool) -> int:
    seen = count_seen(encoder.record, people)
    if seen and not allowed:
        raise EvaluationError(
            f"{encoder.name} was trained on {seen} of the {len(people)} people in "
            "this evaluation: take --split test, or say --allow-seen and do not compare the numbers"
        )
    return seen


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
        As `trainer.evaluation.scoring.score_ranking`, and `per_group` as
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


def _describe_encoder(encoder: RecordedEmbedder) -> dict[str, Any]:
    return {"name": encoder.name, "fingerprint": encoder.fingerprint}


def _describe_balance(drawn: Balance) -> dict[str, Any]:
    return {
        "items": drawn.per_class,
        "classes": list(drawn.classes),
        "left_out": [
            {"finding": name, "queries": asked, "gallery": held}
            for name, (asked, held) in drawn.too_few.items()
        ],
    }


def _describe_truth(truth: Truth) -> dict[str, Any]:
    return {
        "studies": len(truth.statuses),
        "findings": list(truth.findings),
        "ignored_columns": list(truth.ignored),
        "bad_rows": list(truth.bad_rows),
    }
