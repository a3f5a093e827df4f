"""Images of another kind are refused, those of the index's own kind are not; so is a search for them."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from indexer.index import Index
from retrieval.draft.draft import draft
from retrieval.query.query import Query
from retrieval.reliability.ood import (
    FEWEST_SUBJECTS,
    Numbers,
    OutOfDistributionDetector,
    backbone_features,
    fit_detector,
)
from retrieval.search import search

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")

CONTRACTS = Path(__file__).resolve().parents[2] / "docs" / "contracts"
SUBJECTS = 600


def points(count: int, seed: int, *, other: bool = False) -> Numbers:
    """Points of a kind: thirty directions of the space, unevenly; another kind's lie along others."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, 200)) * 0.02
    spread = np.linspace(1.0, 0.1, 30)
    rows[:, 30:60] += random.normal(size=(count, 30)) * (0.3 * spread if other else 0)
    rows[:, :30] += random.normal(size=(count, 30)) * (0 if other else spread)
    rows[:, 100] += 4.0
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def detector() -> OutOfDistributionDetector:
    fitted = fit_detector(
        points(SUBJECTS, 0), points(SUBJECTS, 1, other=True), [str(n) for n in range(SUBJECTS)]
    )
    assert fitted is not None
    return fitted


def test_at_most_one_in_fifty_in_distribution_and_nearly_all_others_are_refused(
    detector: OutOfDistributionDetector,
) -> None:
    assert (detector.distance(points(2_000, 5)) > detector.limit).mean() <= 0.02
    assert (detector.distance(points(2_000, 6, other=True)) > detector.limit).mean() >= 0.95


def test_a_detector_is_the_same_after_it_was_stored(detector: OutOfDistributionDetector) -> None:
    again = OutOfDistributionDetector.from_json(json.loads(json.dumps(detector.as_json())))
    np.testing.assert_allclose(again.distance(points(50, 7)), detector.distance(points(50, 7)), rtol=1e-3)


def test_images_of_too_few_subjects_make_no_detector() -> None:
    few = points(200, 8)
    assert fit_detector(few, few, [str(n % 12) for n in range(200)]) is None
    assert fit_detector(few, few, [str(n % (FEWEST_SUBJECTS - 1)) for n in range(200)]) is None


class BrightnessEncoder:
    """An encoder with a backbone that sees an image's brightness and contrast."""

    def encode_backbone(self, images: list[np.ndarray]) -> np.ndarray:  # type: ignore[type-arg]
        return np.array([[image.mean(), image.std(), 1.0] for image in images], np.float32)


def test_an_inverted_image_is_in_distribution() -> None:
    random = np.random.default_rng(0)
    images = [np.clip(random.normal(0.2, 0.05, (32, 32)), 0, 1).astype(np.float32) for _ in range(240)]
    encoder = BrightnessEncoder()
    features = backbone_features(encoder, images)  # type: ignore[arg-type]
    fitted = fit_detector(*features, [str(n) for n in range(240)])
    assert fitted is not None
    assert not fitted.refuses(encoder, images[0])  # type: ignore[arg-type]
    assert not fitted.refuses(encoder, 1 - images[0])  # type: ignore[arg-type]
    assert fitted.refuses(encoder, random.random((32, 32), np.float32))  # type: ignore[arg-type]


@pytest.fixture
def refusing(index: Index) -> Iterator[Index]:
    """The ward with a detector that refuses every image."""
    width = index.encoder.encode_backbone([np.ones((64, 64), np.float32)]).shape[1]
    nothing = OutOfDistributionDetector(np.zeros(width), np.eye(2, width), np.ones(2), 1e-6, 0.0, 99)
    fingerprint = index.active_version.fingerprint
    index.calibrations.keep(fingerprint, {"gate": nothing.as_json()})
    yield index
    index.calibrations.keep(fingerprint, {"gate": None})


def test_a_refused_image_finds_and_drafts_nothing_and_says_why(refusing: Index) -> None:
    answer = search(refusing, Query(image="phantom://9/1"))
    assert answer.hits == ()
    assert answer.abstained is True
    assert "not of the kind" in str(answer.reason)
    schema = json.loads((CONTRACTS / "search.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(answer.as_json())), schema)
    made = draft(refusing, "phantom://9/1")
    assert not made.statements
    assert "not of the kind" in str(made.reason)


def test_an_image_of_the_index_is_never_refused(refusing: Index) -> None:
    assert search(refusing, Query(image="phantom://3/1")).hits


def test_a_text_is_never_refused(refusing: Index) -> None:
    answer = search(refusing, Query(text="pleural effusion"))
    assert answer.hits
    assert answer.abstained is None
