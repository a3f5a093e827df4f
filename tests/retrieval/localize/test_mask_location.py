"""Boxes and locations of masks, and the question in a phrase: laterality is the patient's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from corpus.errors import UsageError
from corpus.phantom import masks, organs, scene
from retrieval.localize.mask_location import laterality_of, locate
from retrieval.localize.question import LONGEST, read_question
from retrieval.localize.refine.regions import boxes_of, drop_specks


def _block(rows: slice, columns: slice, shape: tuple[int, int] = (90, 60)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


def test_boxes_enclose_the_components_largest_first() -> None:
    mask = _block(slice(3, 6), slice(1, 3)) | _block(slice(20, 40), slice(10, 30))
    first, second = boxes_of(mask)
    assert (first.left, first.top, first.right, first.bottom) == (10, 20, 30, 40)
    assert (second.left, second.top, second.right, second.bottom) == (1, 3, 3, 6)
    assert boxes_of(np.zeros((4, 4), dtype=bool)) == ()
    assert [box.area for box in boxes_of(drop_specks(mask))] == [400]


@given(arrays(np.bool_, (9, 7)))
def test_every_pixel_of_a_mask_is_in_a_box_and_every_edge_of_a_box_touches_it(mask: np.ndarray) -> None:
    covered = np.zeros_like(mask)
    for box in boxes_of(mask):
        part = mask[box.top : box.bottom, box.left : box.right]
        covered[box.top : box.bottom, box.left : box.right] = True
        assert part[0].any()
        assert part[-1].any()
        assert part[:, 0].any()
        assert part[:, -1].any()
    assert not (mask & ~covered).any()


def test_the_left_of_the_image_is_the_patients_right() -> None:
    found = locate(_block(slice(65, 85), slice(5, 20)))
    assert (found.laterality, found.zone) == ("right", "lower zone")
    assert found.words == "right lower zone, 11 % of the right half of the image"
    assert locate(_block(slice(0, 55), slice(40, 60))).zone == "upper and mid zones"
    both = locate(_block(slice(0, 20), slice(0, 60)))
    assert (both.laterality, both.words) == ("both", "upper zone of both sides, 22 % of the image")


@given(arrays(np.bool_, (8, 9)).filter(lambda mask: mask.any()))
def test_a_mirrored_mask_is_on_the_other_side(mask: np.ndarray) -> None:
    other = {"left": "right", "right": "left", "both": "both"}
    assert laterality_of(mask[:, ::-1]) == other[laterality_of(mask)]


def test_with_lungs_the_share_is_of_the_lung_and_lesions_are_located_where_they_were_drawn() -> None:
    right = 0
    for number in range(60):
        drawn = scene(5, number)
        truth, body = masks(drawn), organs(drawn)
        lungs = {"right": body["right_lung"], "left": body["left_lung"]}
        for lesion in drawn.lesions:
            if lesion.finding in ("nodule", "consolidation") and lesion.zone is not None:
                found = locate(truth[lesion.finding], lesion.finding, lungs)
                assert found.laterality == lesion.side
                assert lesion.zone in found.zone
                assert f"% of the {lesion.side} lung" in found.words
                assert 0 < found.share < 0.5
                right += 1
    assert right > 10


def test_the_heart_is_located_without_a_side() -> None:
    assert locate(_block(slice(40, 70), slice(20, 45)), "cardiomegaly").words.startswith("around the middle")


def test_a_phrase_names_one_finding_on_one_side() -> None:
    question = read_question("right pleural effusion")
    assert (question.finding, question.side, question.refusal) == ("pleural_effusion", "right", None)
    assert read_question("pleural_effusion").finding == "pleural_effusion"
    assert read_question("bilateral effusions").side == "both"
    assert read_question("a lump in the breast").finding is None
    # A nodule is a lung lesion: naming both is one question.
    assert read_question("nodule").refusal is None


@pytest.mark.parametrize(
    ("phrase", "stated"),
    [("nodule and effusion", "ask for each by itself"), ("no pneumothorax", "denies the finding")],
)
def test_a_phrase_that_no_mask_can_answer_has_a_reason(phrase: str, stated: str) -> None:
    refusal = read_question(phrase).refusal
    assert refusal is not None
    assert stated in refusal


def test_empty_phrases_and_whole_reports_are_refused() -> None:
    for phrase in ("", "  \n"):
        with pytest.raises(UsageError, match="phrase to find is empty"):
            read_question(phrase)
    with pytest.raises(UsageError, match="10,000 characters: name one finding"):
        read_question("x" * 10_000)
    assert read_question("y" * LONGEST).finding is None
