"""Which subjects train, which tune, which are left out: decided by a hash of the subject, nowhere stored.

All pictures and reports of one person fall on the same side, in every run and on every machine.
"""

import hashlib
from typing import Literal, get_args

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_TRAIN_SHARE, _VAL_SHARE = 70, 10  # per cent; the rest is test


def split_of(subject_id: str) -> Split:
    """Return the split of a subject: 70 % train, 10 % val, 20 % test, by SHA-256 of its id."""
    bucket = _bucket(subject_id, 100)
    if bucket < _TRAIN_SHARE:
        return "train"
    return "val" if bucket < _TRAIN_SHARE + _VAL_SHARE else "test"


def fold_of(subject_id: str, folds: int) -> int:
    """Return which of `folds` parts (from 0) a subject is in, apart from its split."""
    return _bucket(f"fold {subject_id}", folds)


def _bucket(name: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % count
