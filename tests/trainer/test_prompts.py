import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import UsageError
from corpus.findings import (
    NO_FINDING,
    SUPPORT_DEVICES,
    VOCABULARY,
    Status,
    Statuses,
    is_normal,
    make_statuses,
)
from corpus.language.labeler import label_text
from trainer.data.prompts import MOST_DENIALS, describe, prompt_sentences

FINDINGS = tuple(name for name in VOCABULARY.names if name != NO_FINDING)
LABELLED = (Status.PRESENT, Status.ABSENT, Status.UNCERTAIN)

statuses = st.dictionaries(st.sampled_from(FINDINGS), st.sampled_from(LABELLED), max_size=8)
seeds = st.integers(0, 2**32 - 1)


def read(text: str) -> dict[str, Status]:
    """What the labeler reads of each finding; whether the radiograph is normal is left out."""
    return {name: status for name, status in label_text(text).items() if name != NO_FINDING}


def leaves(result: Statuses, status: Status) -> set[str]:
    return {leaf for leaf in VOCABULARY.leaves if result.get(leaf) is status}


@pytest.mark.parametrize("status", LABELLED)
@pytest.mark.parametrize("name", FINDINGS)
def test_the_labeler_reads_in_each_sentence_what_it_was_written_to_say(name: str, status: Status) -> None:
    sentences = prompt_sentences(name, status)
    assert len(set(sentences)) == len(sentences) >= 5
    for sentence in sentences:
        assert read(sentence) == dict(VOCABULARY.spread({name: status})), sentence


def test_each_normal_sentence_is_read_as_a_normal_radiograph() -> None:
    for sentence in prompt_sentences(NO_FINDING, Status.PRESENT):
        assert is_normal(label_text(sentence)), sentence
        assert set(read(sentence).values()) <= {Status.ABSENT}, sentence


def test_no_sentence_is_written_for_two_findings_or_two_statuses() -> None:
    written = [s for name in VOCABULARY.names for status in LABELLED for s in prompt_sentences(name, status)]
    assert len(set(written)) == len(written)


def test_sentences_give_no_side_size_or_course_that_labels_do_not_tell() -> None:
    invented = re.compile(r"\b(left|right|upper|lower|small|large|mild|severe|new|old|stable|unchanged)\b")
    for name in VOCABULARY.names:
        for status in LABELLED:
            assert not [s for s in prompt_sentences(name, status) if invented.search(s.lower())]


def test_an_unknown_finding_has_no_sentences_and_says_so() -> None:
    with pytest.raises(UsageError, match="no sentences for 'scoliosis'"):
        prompt_sentences("scoliosis", Status.PRESENT)


@settings(max_examples=400, deadline=None)
@given(result=statuses, seed=seeds)
def test_a_described_radiograph_reads_back_as_what_was_known_of_it(result: Statuses, seed: int) -> None:
    known = VOCABULARY.spread(result)
    got = read(describe(result, np.random.default_rng(seed)))
    assert leaves(got, Status.PRESENT) == leaves(known, Status.PRESENT)
    assert leaves(got, Status.UNCERTAIN) == leaves(known, Status.UNCERTAIN)
    assert leaves(got, Status.ABSENT) <= leaves(known, Status.ABSENT)


@settings(max_examples=100, deadline=None)
@given(
    absent=st.sets(st.sampled_from([f for f in FINDINGS if f != SUPPORT_DEVICES])),
    devices=st.sampled_from([None, *LABELLED]),
    seed=seeds,
)
def test_a_normal_radiograph_is_called_normal_with_or_without_devices(
    absent: set[str], devices: Status | None, seed: int
) -> None:
    result = dict(make_statuses(present=[NO_FINDING], absent=absent))
    if devices is not None:
        result[SUPPORT_DEVICES] = devices
    got = label_text(describe(result, np.random.default_rng(seed)))
    assert is_normal(got)
    assert leaves(got, Status.PRESENT) == leaves(result, Status.PRESENT)
    assert leaves(got, Status.UNCERTAIN) == leaves(result, Status.UNCERTAIN)


def test_a_radiograph_of_which_only_absences_are_known_denies_at_least_one_and_not_all() -> None:
    result = dict.fromkeys(VOCABULARY.leaves, Status.ABSENT)
    rng = np.random.default_rng(0)
    counts = {len(describe(result, rng).split(".")) - 1 for _ in range(200)}
    assert min(counts) == 1
    assert max(counts) == MOST_DENIALS


def test_another_draw_tells_the_same_radiograph_in_other_words_and_another_order() -> None:
    result = make_statuses(present=["edema", "fracture"], absent=["pneumothorax"])
    rng = np.random.default_rng(0)
    texts = {describe(result, rng) for _ in range(50)}
    assert len(texts) > 40
    order = {re.search(r"edema", t).start() < re.search(r"fractur", t.lower()).start() for t in texts}  # type: ignore[union-attr]
    assert order == {True, False}
    assert describe(result, np.random.default_rng(3)) == describe(result, np.random.default_rng(3))


def test_no_known_finding_gives_an_empty_text() -> None:
    assert describe({}, np.random.default_rng(0)) == ""
