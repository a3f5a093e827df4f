"""A refined mask is used only where it fits the finding's size and the phrase's side."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from corpus.dicom.spacing import Spacing
from corpus.geometry import Box
from retrieval.localize.answer import Localization
from retrieval.localize.localizer import with_mask
from retrieval.localize.question import read_question

Mask = NDArray[np.bool_]


class Drawn:
    """A refiner that returns one rectangle, and records the bound that it got."""

    name = "drawn"

    def __init__(self, box: Box) -> None:
        self.box = box
        self.largest: float | None = None

    def refine(
        self,
        image: NDArray[np.float32],
        heat: NDArray[np.float32],
        mask: Mask,
        boxes: Sequence[Box],
        *,
        largest: float | None = None,
    ) -> Mask:
        self.largest = largest
        return rectangle(self.box)


def rectangle(box: Box) -> Mask:
    mask = np.zeros((200, 200), np.bool_)
    mask[box.top : box.bottom, box.left : box.right] = True
    return mask


@pytest.mark.parametrize(
    ("phrase", "refined", "used"),
    [
        ("nodule", Box(40, 40, 64, 64), True),
        ("nodule", Box(40, 40, 80, 80), False),  # 40 mm
        ("mass", Box(40, 40, 80, 80), True),
        ("right nodule", Box(40, 40, 64, 64), True),
        ("right nodule", Box(140, 40, 160, 64), False),
    ],
)
def test_a_refined_mask_fits_the_size_and_the_side_or_the_map_s_own_is_returned(
    phrase: str, refined: Box, used: bool
) -> None:
    image, own = np.zeros((200, 200), np.float32), rectangle(Box(44, 44, 60, 60))
    question, refiner = read_question(phrase), Drawn(refined)
    answer = Localization(
        phrase, question.finding, "patches", None, own.astype(np.float32), None, None, 1.0, 0.5
    )
    spacing = Spacing(1.0, 1.0)
    found = with_mask(answer, question, image, own, refiner, spacing=spacing)
    assert found.mask is not None
    np.testing.assert_array_equal(found.mask, rectangle(refined) if used else own)
    assert found.refined_by == ("drawn" if used else None)
    assert refiner.largest == (30.0 if question.finding == "nodule" else None)
