"""Similarity of labels keeps all four statuses apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import TrainingError
from corpus.findings import NO_FINDING, VOCABULARY, Status, Statuses, make_statuses
from trainer.data.targets import (
    KINDS,
    Kind,
    TargetConfig,
    contrasted,
    finding_vectors,
    label_similarity,
    rarity_weights,
)

NORMAL: Statuses = make_statuses([NO_FINDING])
statuses = st.dictionaries(st.sampled_from(VOCABULARY.names), st.sampled_from(list(Status)), max_size=6)


def similar(left: Statuses, right: Statuses, kind: Kind) -> float:
    config = TargetConfig(kind=kind)
    vectors = finding_vectors([left, right], config)
    return float(label_similarity(vectors[:1], vectors[1:], kind)[0, 0])


@settings(max_examples=50, deadline=None)
@given(items=st.lists(statuses, min_size=1, max_size=5), kind=st.sampled_from(KINDS))
def test_similarity_is_finite_and_symmetric(items: list[Statuses], kind: Kind) -> None:
    vectors = finding_vectors(items)
    similarity = label_similarity(vectors, vectors, kind)
    assert np.isfinite(similarity).all()
    np.testing.assert_allclose(similarity, similarity.T, atol=1e-6)
    if kind != "dot":
        assert np.abs(similarity).max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_mentioned_is_neither_like_nor_unlike_anything(kind: Kind) -> None:
    assert similar({}, make_statuses(["edema"]), kind) == 0
    assert similar({}, {}, kind) == 0
    assert similar({"edema": Status.UNMENTIONED}, NORMAL, kind) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_present_uncertain_unmentioned_absent_stand_in_that_order(kind: Kind) -> None:
    has = make_statuses(["pleural_effusion"])
    unsure = make_statuses(uncertain=["pleural_effusion"])
    other = make_statuses(["fracture"])
    denies = make_statuses(absent=["pleural_effusion"])
    both, half, none, against = (similar(has, item, kind) for item in (has, unsure, other, denies))
    assert both >= half > none > against
    assert none == 0


@pytest.mark.parametrize("kind", ["cosine", "shared"])
def test_two_normal_radiographs_have_similarity_one_whatever_their_wording(kind: Kind) -> None:
    terse = make_statuses([NO_FINDING])
    wordy = make_statuses([NO_FINDING], ["pneumothorax", "pleural_effusion", "cardiomegaly"])
    assert similar(terse, wordy, kind) == pytest.approx(1.0, abs=0.05)
    assert similar(terse, make_statuses(["pneumothorax"]), kind) < 0


def test_shared_is_shared_over_either() -> None:
    left = make_statuses(["pleural_effusion", "cardiomegaly"])
    right = make_statuses(["pleural_effusion", "fracture"])
    assert similar(left, right, "shared") == pytest.approx(1 / 3)


def test_two_kinds_of_opacity_are_somewhat_similar() -> None:
    assert 0 < similar(make_statuses(["edema"]), make_statuses(["atelectasis"]), "cosine") < 0.5
    apart = TargetConfig(parents=0.0)
    vectors = finding_vectors([make_statuses(["edema"]), make_statuses(["atelectasis"])], apart)
    assert label_similarity(vectors, vectors)[0, 1] == 0


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TrainingError, match="unknown kind"):
        TargetConfig(kind="euclid")  # type: ignore[arg-type]


def test_a_rare_finding_weighs_more_only_if_configured() -> None:
    items = finding_vectors([make_statuses(["edema"])] * 9 + [make_statuses(["hernia"])])
    assert (rarity_weights(items, items, 0.0) == 1).all()
    weights = rarity_weights(items, items, 0.5)
    rare, common = (weights[VOCABULARY.names.index(name)] for name in ("hernia", "edema"))
    assert rare / common == pytest.approx((0.92 / 0.12) ** 0.5)


def test_contrast_speaks_of_what_sets_an_abnormal_image_apart_from_the_others() -> None:
    image_findings = [["pneumonia"]] * 6 + [["pneumonia", "edema"]] * 2 + [["edema"]] + [["no_finding"]] * 3
    plain = finding_vectors(
        [make_statuses(findings) for findings in image_findings], TargetConfig(absent=0.0)
    )
    drawn = np.arange(len(image_findings))
    result = contrasted(plain, drawn, 1.0)
    pneumonia, edema = (VOCABULARY.names.index(name) for name in ("pneumonia", "edema"))
    np.testing.assert_array_equal(result[9:], plain[9:])  # normal radiographs
    np.testing.assert_allclose((result - plain)[:9].mean(axis=0), 0, atol=1e-6)  # departures cancel out
    assert (
        result[6, edema] > result[6, pneumonia] > result[0, pneumonia] - 1e-6
    )  # the rarer says more of a radiograph
    assert max(result[0, edema], result[8, pneumonia]) < 0  # so does what nearly all others have
    np.testing.assert_array_equal(contrasted(plain, drawn, 0.0), plain)
    normal = drawn[9:]
    np.testing.assert_array_equal(contrasted(plain, normal, 1.0), plain)  # no abnormal radiograph to speak of


def test_contrast_counts_images_as_they_are_drawn() -> None:
    vectors = finding_vectors(
        [make_statuses([name]) for name in ("pneumonia", "edema")], TargetConfig(absent=0.0)
    )
    edema = VOCABULARY.names.index("edema")
    often, seldom = (
        contrasted(vectors, np.array(drawn), 1.0)[1, edema] for drawn in ([0, 1, 1, 1], [0, 0, 0, 1])
    )
    assert seldom > often


def test_a_weight_below_nothing_is_refused() -> None:
    with pytest.raises(TrainingError, match="rarity"):
        TargetConfig(rarity=-1.0)
    with pytest.raises(TrainingError, match="contrast"):
        TargetConfig(contrast=-1.0)
