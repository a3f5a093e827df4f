"""Training overlap: which subjects an encoder was trained on, from keyed hashes of their ids.

The encoder's record holds `"subjects": {"salt": hex, "hashes": [hex…]}`, so that an evaluation can count the
subjects of its training without knowing them. An encoder that was initialised with another's image backbone
also holds the lists of that encoder, `"earlier_subjects": [{"salt", "hashes"}…]`.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from corpus.errors import EncoderError

HASH_BYTES = 16
"""Bytes of each HMAC-SHA256 that a record holds: a collision among a billion subjects is improbable."""

_HASH = re.compile(rf"[0-9a-f]{{{2 * HASH_BYTES}}}")


def make_salt() -> str:
    """Return a fresh random key for one encoder's record: 32 bytes as hex."""
    return secrets.token_hex(32)


def hash_subjects(salt: str, ids: Iterable[str]) -> list[str]:
    """Hash subject ids for a record.

    Args:
        salt: the record's key, hex (`make_salt`).
        ids: subject ids, in any order, repeats allowed.

    Returns:
        One hash a distinct subject, sorted: HMAC-SHA256(salt, id), its first 16 bytes as 32 hex digits.

    Raises:
        EncoderError: the salt is not hex.
    """
    try:
        key = bytes.fromhex(salt)
    except ValueError:
        raise EncoderError("the record's subject salt is not hex; export the encoder again") from None
    return sorted({hmac.new(key, i.encode(), hashlib.sha256).digest()[:HASH_BYTES].hex() for i in ids})


def subjects_record(ids: Iterable[str]) -> dict[str, Any]:
    """Return the `subjects` entry of an encoder's record, under a fresh salt."""
    salt = make_salt()
    return {"salt": salt, "hashes": hash_subjects(salt, ids)}


def count_training_overlap(record: Mapping[str, Any], ids: Iterable[str]) -> int:
    """Count the distinct subjects among `ids` that the encoder of `record` was trained on.

    Args:
        record: the encoder's `similarity.json`; without a `subjects` entry the count is 0.
        ids: subject ids.

    Raises:
        EncoderError: the `subjects` entry is there and is not a salt and a list of hashes.
    """
    return len(overlapping_subjects(record, ids))


def overlapping_subjects(record: Mapping[str, Any], ids: Iterable[str]) -> frozenset[str]:
    """The subjects among `ids` that the encoder of `record` was trained on.

    Args:
        record, ids: as `count_training_overlap` takes them.

    Raises:
        EncoderError: the `subjects` entry is there and is not a salt and a list of hashes.
    """
    requested = set(ids)
    overlap: set[str] = set()
    for entry in subject_lists(record):
        known = set(entry["hashes"])
        overlap |= {i for i in requested - overlap if hash_subjects(entry["salt"], [i])[0] in known}
    return frozenset(overlap)


def subject_lists(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The subject lists of an encoder's record: its own, and those of the encoders it was initialised with.

    Raises:
        EncoderError: as `overlapping_subjects`.
    """
    earlier = record.get("earlier_subjects", [])
    lists = [record.get("subjects"), *(earlier if isinstance(earlier, list) else [earlier])]
    stored = [entry for entry in lists if entry is not None]
    if not all(map(_is_list, stored)):
        raise EncoderError("the encoder's record has a damaged list of subjects; export the encoder again")
    return stored


def _is_list(entry: Any) -> bool:
    return (
        isinstance(entry, Mapping)
        and isinstance(entry.get("salt"), str)
        and isinstance(entry.get("hashes"), list)
        and all(isinstance(h, str) and _HASH.fullmatch(h) for h in entry["hashes"])
    )


def was_trained_on(record: Mapping[str, Any], subject_id: str) -> bool:
    """Whether the encoder of `record` was trained on radiographs of a subject.

    Counterfactual radiographs of the subject (`corpus counterfactual`), read through a manifest, count as
    well: a manifest prefixes the id with its own name.

    Raises:
        EncoderError: as `count_training_overlap`.
    """
    return count_training_overlap(record, [subject_id, f"manifest:{subject_id}"]) > 0
