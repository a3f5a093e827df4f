"""Which people an encoder has learned from, written down without saying who they are.

The encoder's record keeps keyed hashes of the subjects it saw, `"subjects": {"salt": hex, "hashes": [hex…]}`,
so that an evaluation can count the people who were already in its training. An encoder that began with the
image trunk of another has that one's lists beside its own, `"earlier_subjects": [{"salt", "hashes"}…]`.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from corpus.errors import EncoderError

HASH_BYTES = 16
"""How much of each HMAC-SHA256 is kept: enough that no two of a billion subjects meet."""

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


def count_seen(record: Mapping[str, Any], ids: Iterable[str]) -> int:
    """Count the distinct subjects among `ids` that the encoder of `record` was trained on.

    Args:
        record: the encoder's `similarity.json`; one without a `subjects` entry has seen nobody that we
            can know of, and counts 0.
        ids: subject ids.

    Raises:
        EncoderError: the `subjects` entry is there and is not a salt and a list of hashes.
    """
    return len(seen_among(record, ids))


def seen_among(record: Mapping[str, Any], ids: Iterable[str]) -> frozenset[str]:
    """The subjects among `ids` that the encoder of `record` was trained on; see `count_seen`.

    Raises:
        EncoderError: the `subjects` entry is there and is not a salt and a list of hashes.
    """
    asked = set(ids)
    seen: set[str] = set()
    for entry in lists_of_subjects(record):
        known = set(entry["hashes"])
        seen |= {i for i in asked - seen if hash_subjects(entry["salt"], [i])[0] in known}
    return frozenset(seen)


def lists_of_subjects(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The lists of an encoder's record: its own people, and those of the encoders it began with.

    Raises:
        EncoderError: as `seen_among`.
    """
    earlier = record.get("earlier_subjects", [])
    lists = [record.get("subjects"), *(earlier if isinstance(earlier, list) else [earlier])]
    held = [entry for entry in lists if entry is not None]
    if not all(map(_is_list, held)):
        raise EncoderError("the encoder's record has a damaged list of subjects; export the encoder again")
    return held


def _is_list(entry: Any) -> bool:
    return (
        isinstance(entry, Mapping)
        and isinstance(entry.get("salt"), str)
        and isinstance(entry.get("hashes"), list)
        and all(isinstance(h, str) and _HASH.fullmatch(h) for h in entry["hashes"])
    )


def has_seen(record: Mapping[str, Any], subject_id: str) -> bool:
    """Whether the encoder of `record` was trained on films of a person.

    Films that were made of this person's (`corpus counterfactual`) and read by a manifest count as well: a
    manifest puts its own name before the id.

    Raises:
        EncoderError: as `count_seen`.
    """
    return count_seen(record, [subject_id, f"manifest:{subject_id}"]) > 0
