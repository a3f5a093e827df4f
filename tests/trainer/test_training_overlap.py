import hashlib
import hmac
import json

import pytest

from corpus.errors import EncoderError
from trainer.runtime.training_overlap import count_training_overlap, hash_subjects, subjects_record


def test_a_hash_is_the_first_half_of_hmac_sha256_under_the_salt() -> None:
    salt = "00ff" * 16
    expected = hmac.new(bytes.fromhex(salt), b"openi:1", hashlib.sha256).hexdigest()[:32]
    assert hash_subjects(salt, ["openi:1", "openi:1"]) == [expected]


def test_a_record_knows_its_subjects_and_no_others_and_names_none() -> None:
    record = json.loads(json.dumps({"subjects": subjects_record(["anna", "bert"])}))
    assert count_training_overlap(record, ["bert", "anna", "carl", "anna"]) == 2
    assert count_training_overlap(record, ["carl"]) == 0
    assert "anna" not in json.dumps(record)


def test_two_records_of_the_same_subjects_share_no_hash() -> None:
    first, second = subjects_record(["anna"]), subjects_record(["anna"])
    assert not set(first["hashes"]) & set(second["hashes"])


def test_a_record_without_training_has_no_overlap() -> None:
    assert count_training_overlap({}, ["anna"]) == 0


@pytest.mark.parametrize(
    "entry",
    [
        [],
        {"salt": "zz", "hashes": []},
        {"salt": "00", "hashes": "ab"},
        {"hashes": []},
        {"salt": "00", "hashes": ["a"]},
    ],
)
def test_a_damaged_list_of_subjects_is_refused_rather_than_taken_as_empty(entry: object) -> None:
    with pytest.raises(EncoderError):
        count_training_overlap({"subjects": entry}, ["anna"])
