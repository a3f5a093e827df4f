"""The question put: an answer to each phrase, refused where the map does not speak for it."""

import numpy as np
import pytest

from corpus.errors import EncoderError, EvaluationError, UsageError
from corpus.settings import settings
from corpus.sources.phantom import PhantomSource
from retrieval.localize.localize import NOT_CALIBRATED, localize
from retrieval.localize.specificity.calibration import (
    Calibration,
    find_calibration,
    fit,
    keep,
)
from retrieval.localize.specificity.evidence import STATISTICS, Contrasts, References, look_at, measure
from retrieval.localize.specificity.fit import BANDS, calibrate, shuffle_rows
from trainer.runtime.encoder import Encoder

CONTRAST = STATISTICS.index("contrast")
KINDS = ("present", "absent", "random", "shuffled")


def _references(encoder: Encoder, films: list[np.ndarray]) -> References:
    looks = look_at(encoder, films)
    return References(np.stack([look.patches for look in looks]), np.stack([look.vector for look in looks]))


def _made_up(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Statistics in which each kind gives itself away by another number."""
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
    """As `_made_up`, and of which fifth of the people each map is."""
    statistics, kinds = _made_up(count, seed)
    return statistics, kinds, np.arange(len(kinds)) % 5


def _rates(calibration: Calibration, statistics: np.ndarray, kinds: np.ndarray) -> dict[str, float]:
    right = (calibration.believe(statistics) >= calibration.threshold) == (kinds == "present")
    return {kind: float(right[kinds == kind].mean()) for kind in KINDS}


def _accepting(references: References, threshold: float) -> Calibration:
    zeros = np.zeros(len(STATISTICS))
    return Calibration(np.zeros(len(STATISTICS) + 1), zeros, zeros + 1, threshold, references, {})


@pytest.fixture(scope="module")
def references(encoder: Encoder, films: list[np.ndarray]) -> References:
    return _references(encoder, films)


def test_a_fit_lets_present_findings_through_and_refuses_each_other_kind(references: References) -> None:
    rates = _rates(fit(*_in_folds(150, 0), references), *_made_up(400, 1))
    assert all(rates[kind] >= 0.87 for kind in ("absent", "random", "shuffled"))
    assert rates["present"] >= 0.8


def test_the_rates_told_are_those_of_people_not_fitted_on(references: References) -> None:
    """Over many small fits they are what the same fits do on new maps: neither better nor worse."""
    told, seen = [], []
    for seed in range(40):
        fitted = fit(*_in_folds(25, seed), references)
        told.append([fitted.rates[kind] for kind in KINDS])
        seen.append(list(_rates(fitted, *_made_up(400, 1000 + seed)).values()))
    np.testing.assert_allclose(np.mean(told, axis=0), np.mean(seen, axis=0), atol=0.03)


def test_people_of_whom_nothing_can_be_told_lower_the_rates(references: References) -> None:
    """Each map is judged by the other folds: one fold that is all noise cannot praise itself."""
    statistics, kinds, folds = _in_folds(60, 0)
    noise = statistics.copy()
    noise[folds == 0] = np.random.default_rng(9).normal(0, 1, (int((folds == 0).sum()), len(STATISTICS)))
    spoiled = fit(noise, kinds, folds, references)
    assert spoiled.rates["present"] < fit(statistics, kinds, folds, references).rates["present"] - 0.1


@pytest.mark.usefixtures("home")
def test_a_calibration_is_found_again_by_encoder_and_method_alone(
    encoder: Encoder, references: References
) -> None:
    fitted = fit(*_in_folds(60, 0), references)
    statistics = _made_up(5, 3)[0]
    assert find_calibration(encoder.fingerprint, "patches") is None
    path = keep(fitted, encoder.fingerprint, "patches")
    assert path.is_relative_to(settings().home_folder)
    found = find_calibration(encoder.fingerprint, "patches")
    assert found is not None
    np.testing.assert_array_equal(found.believe(statistics), fitted.believe(statistics))
    assert find_calibration(encoder.fingerprint, "gradcam") is None
    assert find_calibration("0" * 64, "patches") is None
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EncoderError, match="is damaged: remove it"):
        find_calibration(encoder.fingerprint, "patches")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("method", ["gradcam", "gscorecam", "m2ib", "patches"])
def test_every_phrase_has_an_answer_over_the_picture_as_read(
    method: str, encoder: Encoder, films: list[np.ndarray], references: References
) -> None:
    phrases = ["nodule", "pleural effusion", "nodule and effusion"]
    film = films[2]
    answers = localize(encoder, film, phrases, method=method, thresholds=_accepting(references, 0.4))
    assert [answer.phrase for answer in answers] == phrases
    for answer in answers:
        assert answer.heat.shape == film.shape
        assert answer.heat.dtype == np.float32
        assert 0 <= answer.heat.min() <= answer.heat.max() <= 1
        assert (answer.mask is None) == (answer.reason is not None)
    for answer in answers[:2]:
        if answer.mask is not None:
            assert answer.mask.shape == film.shape
            assert answer.mask.any()
            assert answer.boxes
            assert answer.words
    assert "ask for each by itself" in (answers[2].reason or "")


@pytest.mark.usefixtures("home")
def test_below_the_threshold_there_is_no_mask_and_a_sentence_why(
    encoder: Encoder, films: list[np.ndarray], references: References
) -> None:
    refused = localize(
        encoder, films[0], ["nodule"], method="patches", thresholds=_accepting(references, 0.6)
    )[0]
    assert refused.mask is None
    assert refused.boxes == ()
    assert refused.reason is not None
    assert refused.reason.startswith("No mask: the map does not single out the phrase; ")
    assert (refused.specificity, refused.threshold) == (0.5, 0.6)


@pytest.mark.usefixtures("home")
def test_a_map_on_the_other_side_than_the_phrase_gives_no_mask(
    encoder: Encoder, films: list[np.ndarray], references: References, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = np.zeros(films[0].shape, dtype=bool)
    right[40:60, 10:30] = True
    monkeypatch.setattr(
        "retrieval.localize.localize.clean_masks",
        lambda image, heats, findings, spacing: [right] * len(heats),
    )
    answers = localize(
        encoder, films[0], ["right nodule", "left nodule"], method="patches",
        thresholds=_accepting(references, 0.4),
    )  # fmt: skip
    assert answers[0].side == "right"
    assert answers[1].reason == "No mask: the phrase says left, and the map lies on the right side."


@pytest.mark.usefixtures("home")
def test_without_calibration_a_peak_must_beat_nearly_all_others_and_the_answer_says_so(
    encoder: Encoder, films: list[np.ndarray]
) -> None:
    texts = encoder.encode_texts(["nodule"])
    look = look_at(encoder, films[:1])[0]
    # The text that is a patch's own vector beats every other: it is believed, with a word of caution.
    best = look.patches[look.inside][0][None]
    contrasts = Contrasts(encoder)
    assert measure(encoder, films[0], best, "patches", contrasts, None)[1][0, CONTRAST] == 1.0
    worst = -look.patches[look.inside].mean(axis=0, keepdims=True)
    worst /= np.linalg.norm(worst)
    assert measure(encoder, films[0], worst, "patches", contrasts, None)[1][0, CONTRAST] < 0.9
    answer = localize(encoder, films[0], ["nodule"], method="patches")[0]
    shown = measure(encoder, films[0], texts, "patches", contrasts, None)[1][0, CONTRAST]
    assert answer.specificity == shown
    if shown >= answer.threshold:
        assert answer.reason == NOT_CALIBRATED
    else:
        assert answer.mask is None


def test_an_answer_does_not_depend_on_the_questions_beside_it(
    encoder: Encoder, films: list[np.ndarray], references: References
) -> None:
    contrasts = Contrasts(encoder)
    texts = encoder.encode_texts(["nodule", "cardiomegaly", "edema"])
    for method in ("patches", "gscorecam"):
        together = measure(encoder, films[0], texts, method, contrasts, references)[1]
        alone = measure(encoder, films[0], texts[1:2], method, contrasts, references)[1]
        np.testing.assert_allclose(together[1], alone[0], atol=1e-3)


@pytest.mark.usefixtures("home")
def test_blank_tiny_and_broken_pictures_are_told_in_one_line(encoder: Encoder) -> None:
    for picture, told in (
        (np.zeros((64, 64), np.float32), "is blank"),
        (np.full((64, 64), 0.7, np.float32), "is blank"),
        (np.random.default_rng(0).random((15, 400), np.float32), "15 × 400 is too small"),
        (np.full((64, 64), np.nan, np.float32), "not finite"),
    ):
        with pytest.raises(UsageError, match=told):
            localize(encoder, picture, ["nodule"], method="patches")


@pytest.mark.usefixtures("home")
def test_a_very_long_strip_keeps_its_shape(encoder: Encoder) -> None:
    strip = np.random.default_rng(0).random((20, 20_000), np.float32)
    answer = localize(encoder, strip, ["nodule"], method="patches")[0]
    assert answer.heat.shape == strip.shape


def test_shuffled_rows_are_the_same_rows_with_no_band_in_its_place() -> None:
    film = np.arange(64, dtype=np.float32)[:, None].repeat(3, axis=1)
    torn = shuffle_rows(film, np.random.default_rng(0))
    assert sorted(torn[:, 0].tolist()) == film[:, 0].tolist()
    height = 64 // BANDS
    assert all(torn[band * height, 0] != band * height for band in range(BANDS))


def test_a_source_with_too_little_to_learn_from_is_refused(encoder: Encoder) -> None:
    with pytest.raises(EvaluationError, match="give a larger source"):
        calibrate(encoder, PhantomSource(6, 3).studies(lambda problem: None), "patches")


def test_calibrating_gives_rates_on_films_that_were_not_fitted_on(encoder: Encoder) -> None:
    fitted = calibrate(encoder, PhantomSource(40, 3).studies(lambda problem: None), "patches")
    assert fitted.rates.keys() == set(KINDS)
    assert len(fitted.references.patches) == 40
    # Torn films are unlike all others even to an encoder that has learned nothing.
    assert fitted.rates["shuffled"] >= 0.8
