"""Splits by subject: training, validation and held-out test, by a hash of the subject's id.

All images and reports of one subject fall into one split, in every run and on every machine. So do
counterfactual radiographs made of them (`corpus counterfactual`): a manifest has them under its own name,
followed by the subject's original id.
"""

import hashlib
from typing import Literal

from corpus.subjects import key_of

Split = Literal["train", "val", "test"]

_TRAIN_SHARE, _VAL_SHARE = 70, 10  # per cent; the rest is test


def split_of(subject_id: str) -> Split:
    """Return the split of a subject: 70 % train, 10 % val, 20 % test, by SHA-256 of its id."""
    bucket = _bucket(_original_subject(subject_id), 100)
    if bucket < _TRAIN_SHARE:
        return "train"
    return "val" if bucket < _TRAIN_SHARE + _VAL_SHARE else "test"


def fold_of(subject_id: str, folds: int) -> int:
    """Return the fold, from 0 to `folds` − 1, of a subject; independent of its split."""
    return _bucket(f"fold {_original_subject(subject_id)}", folds)


def _original_subject(subject_id: str) -> str:
    """Return the id of a subject in its original source: a manifest's subject may be one of another source.

    Separate subjects of one patient id share a split: an error of a header must not spread one patient over
    two.
    """
    key = key_of(subject_id)
    of_manifest = key.removeprefix("manifest:")
    return of_manifest if ":" in of_manifest else key


def _bucket(name: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % count
