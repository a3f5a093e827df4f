"""Which subjects train, which tune, which are left out: decided by a hash of the subject, nowhere stored.

All pictures and reports of one person fall on the same side, in every run and on every machine; so do films
made of theirs (`corpus counterfactual`), which a manifest reads with its own name before the person's id.
"""

import hashlib
from typing import Literal, get_args

from corpus.subjects import key_of

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_TRAIN_SHARE, _VAL_SHARE = 70, 10  # per cent; the rest is test


def split_of(subject_id: str) -> Split:
    """Return the split of a subject: 70 % train, 10 % val, 20 % test, by SHA-256 of its id."""
    bucket = _bucket(_person(subject_id), 100)
    if bucket < _TRAIN_SHARE:
        return "train"
    return "val" if bucket < _TRAIN_SHARE + _VAL_SHARE else "test"


def fold_of(subject_id: str, folds: int) -> int:
    """Return which of `folds` parts (from 0) a subject is in, apart from its split."""
    return _bucket(f"fold {_person(subject_id)}", folds)


def _person(subject_id: str) -> str:
    """The id that a person has in its own source: a manifest's subject may be one of another source's.

    Subjects that are kept apart under one patient id share a side: an error of a header must not spread one
    patient over two.
    """
    key = key_of(subject_id)
    of_manifest = key.removeprefix("manifest:")
    return of_manifest if ":" in of_manifest else key


def _bucket(name: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % count
