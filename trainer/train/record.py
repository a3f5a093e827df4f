"""What an encoder's record says of its training: data by name and number, people as keyed hashes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from trainer.data.items import Gathered, SourceCount
from trainer.runtime.training_overlap import lists_of_subjects, subjects_record
from trainer.train.config import TrainConfig, config_table, public_name, without_places

_LICENCES = {
    "covid-chestxray": "a licence for each picture, in the set's metadata",
    "nih-chestxray14": "free use with attribution to the NIH Clinical Center",
    "openi": "CC BY-NC-ND 4.0",
    "phantom": "none: drawn by the program",
}


def run_record(
    config: TrainConfig,
    corpus: Gathered,
    starts: Mapping[str, str],
    earlier: Mapping[str, Any],
    scores: Sequence[Mapping[str, Any]],
    kept: Mapping[str, Any],
    problems: Mapping[str, int],
    seconds: float,
) -> dict[str, Any]:
    """Write down a run for `similarity.json`. No path of this machine and no person's name is in it.

    Args:
        config: the run's settings.
        corpus: what it learned from.
        starts: what the towers began from.
        earlier: the record of the encoder whose image trunk it began with, empty: of none.
        scores: one row an epoch.
        kept: the row of the epoch whose weights are exported.
        problems: items that could not be read, by state.
        seconds: how long this process trained.
    """
    return {
        "data": [_source_row(count) for count in corpus.sources],
        "subjects": subjects_record(corpus.subjects),
        "earlier_subjects": lists_of_subjects(earlier),
        "starts": {side: public_name(start) for side, start in starts.items()},
        "config": config_table(without_places(config)),
        "metrics": {"held_out_for_tuning": dict(kept)},
        "epochs": [dict(row) for row in scores],
        "problems": dict(problems),
        "seconds": round(seconds, 1),
        "torch": torch.__version__,
    }


def _source_row(count: SourceCount) -> dict[str, Any]:
    kind = count.source.partition(":")[0]
    return {**asdict(count), "licence": _LICENCES.get(kind, "as given by whoever made the set")}
