"""The phantom's promises: one scene, one image, exact masks, the same bytes every time."""

import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from corpus.errors import CorpusError, UsageError
from corpus.findings import NO_FINDING, Status
from corpus.phantom import Scene, masks, organs, render, scene
from corpus.phantom.anatomy import NORMAL_CTR, Positioning
from corpus.phantom.lesions import (
    CARDIOMEGALY,
    CONTRASTS,
    FAINT_CONTRASTS,
    FINDINGS,
    PNEUMOTHORAX,
    SIZES,
    ZONES,
    Lung,
    draw,
)
from corpus.phantom.scene import FAINT_SHARE, NORMAL_SHARE, PREVALENCE

COHORT = 2_000
PIXEL_MM = 380 / 256


@cache
def cohort() -> tuple[Scene, ...]:
    return tuple(scene(0, number) for number in range(COHORT))


def with_one(finding: str, faint: bool = False, count: int = 6) -> list[Scene]:
    """Scenes left with one kind of finding only."""
    chosen = (s for s in cohort() if any(x.finding == finding and x.faint is faint for x in s.lesions))
    picked = [next(chosen) for _ in range(count)]
    return [replace(s, lesions=tuple(x for x in s.lesions if x.finding == finding)) for s in picked]


def widen(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    wide = np.pad(mask, pixels)
    for _ in range(pixels):
        wide = wide | np.roll(wide, 1, 0) | np.roll(wide, -1, 0)
        wide = wide | np.roll(wide, 1, 1) | np.roll(wide, -1, 1)
    return wide[pixels:-pixels, pixels:-pixels]


def digest(seed: int, numbers: range) -> str:
    whole = hashlib.sha256()
    for number in numbers:
        drawn = scene(seed, number)
        whole.update(render(drawn).tobytes())
        for name, mask in sorted(masks(drawn).items()):
            whole.update(name.encode() + mask.tobytes())
    return whole.hexdigest()


def test_another_process_draws_the_same_bytes() -> None:
    script = (
        "import hashlib; from corpus.phantom import masks, render, scene\n"
        "whole = hashlib.sha256()\n"
        "for number in range(5, 12):\n"
        "    drawn = scene(7, number)\n"
        "    whole.update(render(drawn).tobytes())\n"
        "    for name, mask in sorted(masks(drawn).items()):\n"
        "        whole.update(name.encode() + mask.tobytes())\n"
        "print(whole.hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(7, range(5, 12))


def test_another_seed_or_number_draws_another_image() -> None:
    films = {render(scene(seed, number)).tobytes() for seed in range(3) for number in range(3)}
    assert len(films) == 9


def test_a_negative_seed_or_number_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="phantom seed"):
        scene(-1, 0)
    with pytest.raises(UsageError, match="phantom seed"):
        scene(0, -1)


@pytest.mark.parametrize("size", [64, 256, 300])
def test_an_image_is_grey_between_black_and_white(size: int) -> None:
    for number in range(6):
        image = render(scene(1, number), size)
        assert image.shape == (size, size)
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert image.min() >= 0.0
        assert image.max() <= 1.0


def test_an_image_looks_like_a_chest() -> None:
    # Dense heart and abdomen, darker lungs, black air above the shoulders.
    for drawn in [s for s in cohort()[:60] if not s.lesions][:10]:
        image, organ = render(drawn), organs(drawn)
        lungs = image[organ["right_lung"] | organ["left_lung"]].mean()
        assert image[organ["heart"]].mean() > lungs + 0.15
        assert image[-20:, 80:176].mean() > lungs + 0.15
        assert image[:4, :40].max() < 0.1
        assert 0.15 < lungs < 0.65


def test_the_patients_right_lung_is_on_the_images_left() -> None:
    for drawn in cohort()[:10]:
        organ = organs(drawn)
        assert np.nonzero(organ["right_lung"])[1].mean() < 128 < np.nonzero(organ["left_lung"])[1].mean()


def test_prevalences_are_those_stated() -> None:
    def close(count: int, share: float, total: int = COHORT) -> bool:
        # 4.5 deviations; follow-ups repeat their subject's findings, which widens them a little.
        return abs(count - share * total) < 4.5 * (1.15 * share * (1 - share) * total) ** 0.5

    found = Counter(name for s in cohort() for name in {x.finding for x in s.lesions})
    assert close(sum(not s.lesions for s in cohort()), NORMAL_SHARE)
    assert set(found) == set(FINDINGS)
    assert all(close(count, PREVALENCE) for count in found.values()), found
    lesions = [x for s in cohort() for x in s.lesions]
    assert close(sum(x.faint for x in lesions), FAINT_SHARE, len(lesions))
    sided = [x.side for x in lesions if x.side is not None]
    assert close(sided.count("left"), 0.5, len(sided))


def test_sizes_and_contrasts_are_within_the_stated_ranges() -> None:
    for lesion in (x for s in cohort() for x in s.lesions):
        smallest, largest = SIZES[lesion.finding]
        assert smallest <= lesion.size <= largest
        weakest, strongest = (FAINT_CONTRASTS if lesion.faint else CONTRASTS)[lesion.finding]
        assert weakest <= lesion.contrast <= strongest


def test_every_lesion_lies_in_the_lung_of_its_side() -> None:
    for drawn in cohort()[:150]:
        organ = organs(drawn)
        for name, mask in masks(drawn).items():
            assert mask.any()
            if name == CARDIOMEGALY:
                assert (mask == organ["heart"]).all()
            else:
                sides = {x.side for x in drawn.lesions if x.finding == name}
                assert not (mask & ~np.any([organ[f"{side}_lung"] for side in sides], axis=0)).any()
                assert all((mask & organ[f"{side}_lung"]).any() for side in sides)


def test_a_lesion_lies_in_the_zone_it_names() -> None:
    for drawn in (s for s in cohort()[:300] if any(x.zone for x in s.lesions)):
        for lesion in (x for x in drawn.lesions if x.zone):
            assert list(ZONES).index(lesion.zone) == int(lesion.down * 3)


def test_findings_without_a_mask_have_none_and_normal_images_have_no_masks() -> None:
    for drawn in cohort()[:40]:
        assert set(masks(drawn)) == {x.finding for x in drawn.lesions}


@pytest.mark.parametrize("finding", [f for f in FINDINGS if f != CARDIOMEGALY])
@pytest.mark.parametrize("faint", [False, True])
def test_a_lesion_changes_the_image_only_in_its_mask_and_in_its_direction(finding: str, faint: bool) -> None:
    for drawn in with_one(finding, faint):
        mask = masks(drawn)[finding]
        change = render(drawn) - render(replace(drawn, lesions=()))
        # Unsharpness carries a change one pixel further.
        assert not change[~widen(mask, 1)].any()
        towards_dark = finding == PNEUMOTHORAX
        assert bool(change[mask].mean() < 0) is towards_dark
        if not faint:
            assert abs(change[mask].mean()) > 0.02
        if not towards_dark:
            assert np.median(change[mask]) > 0


def test_an_enlarged_heart_whitens_its_own_silhouette_only() -> None:
    for drawn in with_one(CARDIOMEGALY):
        change = render(drawn) - render(replace(drawn, lesions=()))
        mask = masks(drawn)[CARDIOMEGALY]
        assert not change[~widen(mask, 1)].any()
        assert change[mask].mean() > 0


def test_the_hearts_width_tells_cardiomegaly_from_normal() -> None:
    for drawn in cohort()[:200]:
        upright = replace(
            drawn, acquisition=replace(drawn.acquisition, positioning=Positioning(0.0, 0.0, 0.0, 0.0))
        )
        width = np.flatnonzero(organs(upright)["heart"].any(axis=0)).size * PIXEL_MM
        ratio = width / (2 * drawn.anatomy.thorax_half_width)
        assert ratio == pytest.approx(drawn.ctr, abs=1.5 * PIXEL_MM / (2 * drawn.anatomy.thorax_half_width))
        if any(x.finding == CARDIOMEGALY for x in drawn.lesions):
            assert drawn.ctr > 0.5
        else:
            assert NORMAL_CTR[0] <= drawn.ctr <= NORMAL_CTR[1] < 0.48


def test_a_nodule_has_the_diameter_of_its_report() -> None:
    for drawn in with_one("nodule", count=12):
        area = masks(drawn)["nodule"].sum() * PIXEL_MM**2
        assert 2 * (area / np.pi) ** 0.5 == pytest.approx(2 * drawn.lesions[0].size, rel=0.15)


def test_a_lesion_can_be_drawn_into_any_lung_of_its_side() -> None:
    # A plain rectangle stands for the lung of a real image, of another size and pixel spacing.
    mask = np.zeros((400, 330), dtype=bool)
    mask[60:330, 20:140] = True
    lung = Lung(mask, "right", 0.9)
    for finding in (f for f in FINDINGS if f != CARDIOMEGALY):
        lesion = next(x for s in cohort() for x in s.lesions if x.finding == finding and x.side == "right")
        field = draw(lesion, lung)
        assert field.attenuation.dtype == np.float32
        assert field.mask.any()
        assert not (field.mask & ~mask).any()
        assert (field.mask == (field.attenuation != 0)).mean() > 0.999
        with pytest.raises(CorpusError, match="left lung"):
            draw(lesion, Lung(mask, "left", 0.9))
        with pytest.raises(CorpusError, match="empty"):
            draw(lesion, Lung(np.zeros_like(mask), "right", 0.9))


def test_an_enlarged_heart_is_no_lesion_of_a_lung() -> None:
    heart = next(x for s in cohort() for x in s.lesions if x.finding == CARDIOMEGALY)
    with pytest.raises(CorpusError, match="not drawn into a lung"):
        draw(heart, Lung(np.ones((9, 9), dtype=bool), "right", 1.0))


def test_statuses_are_the_lesions_and_what_is_denied() -> None:
    for drawn in cohort():
        sure = {x.finding for x in drawn.lesions if not x.faint}
        unsure = {x.finding for x in drawn.lesions if x.faint}
        for finding in FINDINGS:
            status = drawn.statuses.get(finding, Status.UNMENTIONED)
            assert (status is Status.PRESENT) == (finding in sure)
            assert (status is Status.UNCERTAIN) == (finding in unsure)
            assert finding not in drawn.negated or status is Status.ABSENT
        assert (drawn.statuses.get(NO_FINDING) is Status.PRESENT) == (not drawn.lesions)
