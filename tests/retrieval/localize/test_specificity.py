"""Specificity: a mask is returned only where the map is specific to the phrase and the image."""

from pathlib import Path

import numpy as np
import pytest

import similarity as sim
from corpus.errors import EncoderError, EvaluationError, UsageError
from corpus.settings import settings
from corpus.sources.phantom import PhantomSource
from retrieval.localize.localizer import NOT_CALIBRATED, localize, method_localizers
from retrieval.localize.specificity.calibration import (
    UNCALIBRATED,
    SpecificityCalibration,
    find_calibration,
    save_calibration,
)
from retrieval.localize.specificity.calibration_fit import BANDS, calibrate, fit, shuffle_rows
from retrieval.localize.specificity.map_statistics import (
    STATISTICS,
    Contrasts,
    References,
    encode_image,
    measure,
)
from trainer.runtime.encoder import Encoder

CONTRAST = STATISTICS.index("contrast")
KINDS = ("present", "absent", "random", "shuffled")


def _references(encoder: Encoder, images: list[np.ndarray]) -> References:
    encoded = [encode_image(encoder, image) for image in images]
    return References(np.stack([one.patches for one in encoded]), np.stack([one.vector for one in encoded]))


def _made_up(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics in which each kind differs by another column."""
    random = np.random.default_rng(seed)
    rows, kinds = [], []
    for kind in KINDS:
        some = random.normal(0, 1, (count, len(STATISTICS)))
        some[:, STATISTICS.index("peak")] += 4 if kind in ("present", "shuffled") else 0
        some[:, STATISTICS.index("contrast")] += 3 if kind != "random" else 0
        some[:, STATISTICS.index("familiarity")] -= 5 if kind == "shuffled" else 0
        rows.append(some)
        kinds += [kind] * count
    return np.concatenate(rows), np.array(kinds)


def _in_folds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_made_up`, with the fifth of the subjects of each map."""
    statistics, kinds = _made_up(count, seed)
    return statistics, kinds, np.arange(len(kinds)) % 5


def _rates(
    calibration: SpecificityCalibration, statistics: np.ndarray, kinds: np.ndarray
) -> dict[str, float]:
    right = (calibration.specificity(statistics) >= calibration.threshold) == (kinds == "present")
    return {kind: float(right[kinds == kind].mean()) for kind in KINDS}


def _accepting(references: References, threshold: float) -> SpecificityCalibration:
    zeros = np.zeros(len(STATISTICS))
    return SpecificityCalibration(np.zeros(len(STATISTICS) + 1), zeros, zeros + 1, threshold, references, {})


@pytest.fixture(scope="module")
def references(encoder: Encoder, images: list[np.ndarray]) -> References:
    return _references(encoder, images)


def test_a_fit_is_sensitive_to_present_findings_and_specific_for_each_other_kind(
    references: References,
) -> None:
    rates = _rates(fit(*_in_folds(150, 0), references), *_made_up(400, 1))
    assert all(rates[kind] >= 0.87 for kind in ("absent", "random", "shuffled"))
    assert rates["present"] >= 0.8


def test_the_stored_rates_are_those_of_subjects_not_fitted_on(references: References) -> None:
    """Over many small fits they equal the rates of the same fits on new maps."""
    stored, on_new = [], []
    for seed in range(40):
        fitted = fit(*_in_folds(25, seed), references)
        stored.append([fitted.rates[kind] for kind in KINDS])
        on_new.append(list(_rates(fitted, *_made_up(400, 1000 + seed)).values()))
    np.testing.assert_allclose(np.mean(stored, axis=0), np.mean(on_new, axis=0), atol=0.03)


def test_subjects_with_uninformative_maps_lower_the_rates(references: References) -> None:
    """Each map is scored by the other folds: a fold of pure noise does not score itself."""
    statistics, kinds, folds = _in_folds(60, 0)
    noise = statistics.copy()
    noise[folds == 0] = np.random.default_rng(9).normal(0, 1, (int((folds == 0).sum()), len(STATISTICS)))
    spoiled = fit(noise, kinds, folds, references)
    assert spoiled.rates["present"] < fit(statistics, kinds, folds, references).rates["present"] - 0.1


@pytest.mark.usefixtures("home")
def test_a_calibration_is_found_by_encoder_and_method_alone(encoder: Encoder, references: References) -> None:
    fitted = fit(*_in_folds(60, 0), references)
    statistics = _made_up(5, 3)[0]
    assert find_calibration(encoder.fingerprint, "patches") is None
    path = save_calibration(fitted, encoder.fingerprint, "patches")
    assert path.is_relative_to(settings().home_folder)
    found = find_calibration(encoder.fingerprint, "patches")
    assert found is not None
    np.testing.assert_array_equal(found.specificity(statistics), fitted.specificity(statistics))
    assert find_calibration(encoder.fingerprint, "gradcam") is None
    assert find_calibration("0" * 64, "patches") is None
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EncoderError, match="is damaged: remove it"):
        find_calibration(encoder.fingerprint, "patches")


@pytest.mark.usefixtures("home")
def test_the_calibration_of_another_home_is_not_used(
    encoder: Encoder, images: list[np.ndarray], references: References, tmp_path: Path
) -> None:
    save_calibration(_accepting(references, 0.4), encoder.fingerprint, "patches")  # SIMILARITY_HOME
    thresholds = {
        home: sim.localize(encoder, images[0], "nodule", method="patches", refine="none", home=home).threshold
        for home in (None, tmp_path / "other")
    }
    assert thresholds == {None: 0.4, tmp_path / "other": UNCALIBRATED}
    by_home = [
        method_localizers(encoder, ["patches"], home=home)["patches"](images[0], ["nodule"])[0].threshold
        for home in thresholds
    ]
    assert by_home == list(thresholds.values())
    assert localize(encoder, images[0], ["nodule"], method="patches")[0].threshold == UNCALIBRATED


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("method", ["gradcam", "gscorecam", "m2ib", "patches"])
def test_every_phrase_has_an_answer_over_the_image_as_read(
    method: str, encoder: Encoder, images: list[np.ndarray], references: References
) -> None:
    phrases = ["nodule", "pleural effusion", "nodule and effusion"]
    image = images[2]
    answers = localize(encoder, image, phrases, method=method, calibration=_accepting(references, 0.4))
    assert [answer.phrase for answer in answers] == phrases
    for answer in answers:
        assert answer.heat.shape == image.shape
        assert answer.heat.dtype == np.float32
        assert 0 <= answer.heat.min() <= answer.heat.max() <= 1
        assert (answer.mask is None) == (answer.reason is not None)
    for answer in answers[:2]:
        if answer.mask is not None:
            assert answer.mask.shape == image.shape
            assert answer.mask.any()
            assert answer.boxes
            assert answer.words
    assert "ask for each by itself" in (answers[2].reason or "")


@pytest.mark.usefixtures("home")
def test_below_the_threshold_there_is_no_mask_and_a_sentence_why(
    encoder: Encoder, images: list[np.ndarray], references: References
) -> None:
    refused = localize(
        encoder, images[0], ["nodule"], method="patches", calibration=_accepting(references, 0.6)
    )[0]
    assert refused.mask is None
    assert refused.boxes == ()
    assert refused.reason is not None
    assert refused.reason.startswith("No mask: the map does not single out the phrase; ")
    assert (refused.specificity, refused.threshold) == (0.5, 0.6)


@pytest.mark.usefixtures("home")
def test_a_map_on_the_other_side_than_the_phrase_gives_no_mask(
    encoder: Encoder, images: list[np.ndarray], references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = np.zeros(images[0].shape, dtype=bool)
    right[40:60, 10:30] = True
    monkeypatch.setattr(
        "retrieval.localize.localizer.clean_masks",
        lambda image, heats, findings, spacing: [right] * len(heats),
    )
    answers = localize(
        encoder, images[0], ["right nodule", "left nodule"], method="patches",
        calibration=_accepting(references, 0.4),
    )  # fmt: skip
    assert answers[0].side == "right"
    assert answers[1].reason == "No mask: the phrase says left, and the map lies on the right side."


@pytest.mark.usefixtures("home")
def test_without_calibration_a_peak_must_exceed_nearly_all_others_and_the_answer_states_it(
    encoder: Encoder, images: list[np.ndarray]
) -> None:
    texts = encoder.encode_texts(["nodule"])
    encoded = encode_image(encoder, images[0])
    # The text that is a patch's own vector exceeds every other: there is a mask, with a qualification.
    best = encoded.patches[encoded.inside][0][None]
    contrasts = Contrasts(encoder)
    assert measure(encoder, images[0], best, "patches", contrasts, None)[1][0, CONTRAST] == 1.0
    worst = -encoded.patches[encoded.inside].mean(axis=0, keepdims=True)
    worst /= np.linalg.norm(worst)
    assert measure(encoder, images[0], worst, "patches", contrasts, None)[1][0, CONTRAST] < 0.9
    answer = localize(encoder, images[0], ["nodule"], method="patches")[0]
    shown = measure(encoder, images[0], texts, "patches", contrasts, None)[1][0, CONTRAST]
    assert answer.specificity == shown
    if shown >= answer.threshold:
        assert answer.reason == NOT_CALIBRATED
    else:
        assert answer.mask is None


def test_an_answer_does_not_depend_on_the_other_phrases(
    encoder: Encoder, images: list[np.ndarray], references: References
) -> None:
    contrasts = Contrasts(encoder)
    texts = encoder.encode_texts(["nodule", "cardiomegaly", "edema"])
    for method in ("patches", "gscorecam"):
        together = measure(encoder, images[0], texts, method, contrasts, references)[1]
        alone = measure(encoder, images[0], texts[1:2], method, contrasts, references)[1]
        np.testing.assert_allclose(together[1], alone[0], atol=1e-3)


@pytest.mark.usefixtures("home")
def test_blank_tiny_and_broken_images_are_refused_in_one_line(encoder: Encoder) -> None:
    for image, message in (
        (np.zeros((64, 64), np.float32), "is blank"),
        (np.full((64, 64), 0.7, np.float32), "is blank"),
        (np.random.default_rng(0).random((15, 400), np.float32), "15 × 400 is too small"),
        (np.full((64, 64), np.nan, np.float32), "not finite"),
    ):
        with pytest.raises(UsageError, match=message):
            localize(encoder, image, ["nodule"], method="patches")


@pytest.mark.usefixtures("home")
def test_a_very_long_strip_keeps_its_shape(encoder: Encoder) -> None:
    strip = np.random.default_rng(0).random((20, 20_000), np.float32)
    answer = localize(encoder, strip, ["nodule"], method="patches")[0]
    assert answer.heat.shape == strip.shape


def test_shuffled_rows_are_the_same_rows_with_every_band_moved() -> None:
    image = np.arange(64, dtype=np.float32)[:, None].repeat(3, axis=1)
    shuffled = shuffle_rows(image, np.random.default_rng(0))
    assert sorted(shuffled[:, 0].tolist()) == image[:, 0].tolist()
    height = 64 // BANDS
    assert all(shuffled[band * height, 0] != band * height for band in range(BANDS))


def test_a_source_with_too_few_images_is_refused(encoder: Encoder) -> None:
    with pytest.raises(EvaluationError, match="give a larger source"):
        calibrate(encoder, PhantomSource(6, 3).studies(lambda problem: None), "patches")


def test_a_calibration_has_rates_on_images_that_were_not_fitted_on(encoder: Encoder) -> None:
    fitted = calibrate(encoder, PhantomSource(40, 3).studies(lambda problem: None), "patches")
    assert fitted.rates.keys() == set(KINDS)
    assert len(fitted.references.patches) == 40
    # Shuffled images differ from all others even for an untrained encoder.
    assert fitted.rates["shuffled"] >= 0.8
