"""Masks from maps: background, size limits, and sizes in millimetres."""

from dataclasses import replace

import numpy as np
import pytest

from corpus.dicom.spacing import Spacing
from retrieval.localize.answer import Localization
from retrieval.localize.refine.regions import ASSUMED_FIELD_MM, above_background, boxes_of, clean_masks


def test_values_below_the_median_are_background_however_low_the_map_falls_elsewhere() -> None:
    heat = np.full((64, 64), 0.45, np.float32)
    heat[:10] = 0.0  # a part that is unlike the phrase
    heat[30:36, 30:36] = 1.0
    raised = above_background(heat)
    assert raised[50, 50] == 0.0
    assert raised[5, 5] == 0.0
    assert raised[32, 32] == 1.0
    noise = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    mask = clean_masks(noise, [heat], [None])[0]
    assert mask[32, 32]
    assert mask.mean() < 0.05


def test_a_finding_that_is_small_by_its_definition_has_no_larger_mask() -> None:
    rows, columns = np.mgrid[:256, :256]
    heat = np.exp(-((rows - 100) ** 2 + (columns - 70) ** 2) / 2 / 30**2).astype(np.float32)
    image = np.random.default_rng(0).random((256, 256), dtype=np.float32)
    nodule, consolidation, anything = clean_masks(image, [heat] * 3, ["nodule", "consolidation", None])
    disc = np.pi / 4 * (30 / ASSUMED_FIELD_MM * 256) ** 2
    assert consolidation.sum() > 2 * disc
    assert (consolidation == anything).all()
    assert nodule[100, 70]
    assert 0.95 * disc <= nodule.sum() <= 1.05 * disc
    assert heat[nodule].min() >= heat[consolidation & ~nodule].max()
    weaker = np.maximum(heat, 0.9 * heat[:, ::-1])
    both, alone = (clean_masks(image, [weaker], [name])[0] for name in ("consolidation", "nodule"))
    assert both[:, 128:].any()
    assert not alone[:, 128:].any(), "a region below the nodule's level is no second one"
    small = np.exp(-((rows - 100) ** 2 + (columns - 70) ** 2) / 2 / 4**2).astype(np.float32)
    assert np.array_equal(*clean_masks(image, [small] * 2, ["nodule", None])), "a smaller one is unchanged"


def test_a_level_map_is_returned_unchanged() -> None:
    level = np.full((8, 8), 0.7, np.float32)
    assert (above_background(level) == level).all()


@pytest.mark.parametrize("spacing", [Spacing(1.0, 1.0), Spacing(2.0, 2.0), Spacing(0.5, 2.0)])
def test_the_pixel_spacing_determines_the_pixels_of_a_nodule(spacing: Spacing) -> None:
    rows, columns = np.mgrid[:256, :256]
    heat = np.exp(-((rows - 100) ** 2 + (columns - 70) ** 2) / 2 / 40**2).astype(np.float32)
    image = np.random.default_rng(0).random((256, 256), dtype=np.float32)
    [nodule] = clean_masks(image, [heat], ["nodule"], spacing)
    assert nodule.sum() * spacing.down * spacing.across == pytest.approx(np.pi / 4 * 30**2, rel=0.05)


def test_an_answer_has_the_millimetres_of_its_largest_box() -> None:
    heat = np.zeros((40, 60), np.float32)
    mask = heat > 0
    mask[10:30, 5:15] = mask[35:37, 50:52] = True
    answer = Localization(
        "nodule", "nodule", "patches", None, heat, mask, None, 1.0, 0.5, boxes_of(mask),
        spacing=Spacing(0.2, 0.4, at_detector=True),
    )  # fmt: skip
    record = answer.as_json()
    assert record["pixel_spacing_mm"] == [0.2, 0.4]
    assert record["size_mm"] == [4.0, 4.0]
    assert record["spacing_source"] == "detector"
    assert replace(answer, spacing=None).as_json()["size_mm"] is None
