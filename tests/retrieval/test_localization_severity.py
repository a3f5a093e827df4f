"""Severity by zone (`benchmarks.severity`): zones, rank correlations, and the scores of two radiologists."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from benchmarks.severity import (
    QUANTITIES,
    USUAL_LUNGS,
    Scored,
    correlations,
    map_severity,
    other_patients_mean,
    read_scored,
    spearman,
    usual_zones,
    zone_means,
    zones_of,
)
from corpus.geometry import Box
from corpus.images.reader import read_image
from trainer.runtime.encoder import Encoder


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=3, max_size=40))
def test_the_rank_correlation_is_that_of_scipy(pairs: Sequence[tuple[int, int]]) -> None:
    one, other = (np.array(values, np.float64) for values in zip(*pairs, strict=True))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert np.isnan(spearman(one, other))
    else:
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)


def test_a_reader_agrees_with_the_same_scores_and_a_level_severity_has_no_correlation() -> None:
    random = np.random.default_rng(1)
    scores = random.integers(0, 4, (12, 6)).astype(np.float64)
    subjects = [f"p{number // 2}" for number in range(12)]
    same = correlations(3 * scores + 1, scores, subjects, draws=50)
    assert all(
        value == pytest.approx(1) and bounds == pytest.approx([1, 1]) for value, bounds in same.values()
    )
    level = correlations(np.ones((12, 6)), scores, subjects, draws=50)
    assert all(np.isnan(value) for value, _ in level.values())


def test_an_interval_is_over_patients_not_over_images() -> None:
    """The same image ten times of each patient is no more evidence than once."""
    random = np.random.default_rng(2)
    scores = random.integers(0, 4, (8, 6)).astype(np.float64)
    severity = scores + random.normal(0, 1.5, (8, 6))
    subjects = [f"p{number}" for number in range(8)]
    once = correlations(severity, scores, subjects, draws=200)
    repeated = [np.repeat(values, 10, axis=0) for values in (severity, scores)]
    often = correlations(*repeated, np.repeat(subjects, 10).tolist(), draws=200)
    for name in ("zones", "within", "totals"):
        assert often[name][0] == pytest.approx(once[name][0])
        assert often[name][1] == pytest.approx(once[name][1])


def test_the_baseline_excludes_the_patients_own_radiographs() -> None:
    scores = np.array([[3.0] * 6, [3.0] * 6, [0.0] * 6, [1.0] * 6])
    baseline = other_patients_mean(scores, ["a", "a", "b", "c"])
    assert baseline[:, 0].tolist() == [0.5, 0.5, pytest.approx(7 / 3), 2.0]


def test_zones_are_thirds_of_each_lung_the_patients_right_first() -> None:
    zones = usual_zones((1000, 500))
    assert zones[0] == Box(40, 80, 230, 323)
    assert zones[2].bottom == 810
    assert zones[3].left > zones[0].right
    assert len(zones) == 3 * len(USUAL_LUNGS)
    values = np.zeros((1000, 500), np.float32)
    values[zones[4].top : zones[4].bottom, zones[4].left : zones[4].right] = 1
    assert zone_means(values, zones).tolist() == [0, 0, 0, 0, 1, 0]


def test_zones_that_are_found_lie_near_the_usual_ones() -> None:
    image = read_image("phantom://4/2")
    found = zones_of(image)
    assert found is not None
    for zone, usual in zip(found, usual_zones(image.shape), strict=True):
        middle = (zone.left + zone.right) / 2
        assert usual.left - 20 < middle < usual.right + 20
    assert zones_of(np.full((64, 64), 0.5, np.float32)) is None


def test_every_phrase_and_their_mean_have_a_severity_in_every_zone(encoder_folder: Path) -> None:
    scored = [Scored(f"p{n}", f"phantom://4/{n}", np.zeros(6), np.zeros(6)) for n in range(3)]
    encoder = Encoder.load(encoder_folder, "cpu")
    phrases = ["consolidation", "pleural effusion"]
    severity, found = map_severity(encoder, scored, phrases, ["patches"], search=True)
    assert found > 0
    assert len(severity) == 3 * len(QUANTITIES) + 1
    for values in severity.values():
        assert values.shape == (3, 6)
        assert np.isfinite(values).all()
    one, other, mean = (severity[f"patches, {row}: map"] for row in (*phrases, "mean of phrases"))
    assert mean == pytest.approx((one + other) / 2)
    assert ((mean >= 0) & (mean <= 1)).all()


@pytest.mark.real_data
def test_the_scores_of_both_radiologists_are_read_and_agree(data: Path) -> None:
    """Every scored radiograph is one of the set; a zone's scores correlate by 0.78, an image's by 0.86."""
    scored = read_scored(data)
    assert (len(scored), len({one.subject for one in scored})) == (116, 82)
    senior, junior = (np.stack([getattr(one, reader) for one in scored]) for reader in ("senior", "junior"))
    agreement = correlations(junior, senior, [one.subject for one in scored], draws=20)
    assert agreement["zones"][0] == pytest.approx(0.78, abs=0.01)
    assert agreement["totals"][0] == pytest.approx(0.86, abs=0.01)
