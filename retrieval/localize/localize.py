"""The question put: where is this in this picture? From map to mask to words, or a sentence why not."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from corpus.dicom.spacing import Spacing
from corpus.errors import UsageError
from corpus.images.reader import MIN_SIDE
from retrieval.localize.answer import Localization
from retrieval.localize.mask_location import Lungs, locate, side_of
from retrieval.localize.question import Question, read_question
from retrieval.localize.refine.refiner import Refiner
from retrieval.localize.refine.regions import boxes_of, clean_masks
from retrieval.localize.saliency.maps import scaled
from retrieval.localize.specificity.calibration import UNCALIBRATED, Calibration, find_calibration
from retrieval.localize.specificity.evidence import STATISTICS, Contrasts, measure
from trainer.runtime.encoder import Encoder

_CONTRAST = STATISTICS.index("contrast")

NOT_CALIBRATED = (
    "This encoder is not calibrated for localization here, so that the mask is not checked against absent "
    "findings: run `similarity localize --calibrate SOURCE`."
)

_AGAINST = {
    "peak": "no part of the picture is nearer to it than in films without it",
    "excess": "no part of the picture is nearer to it than the same part of films without it",
    "likeness": "the picture as a whole is no nearer to it than films without it",
    "contrast": "other findings light up as much",
    "focus": "the map is spread over the picture",
    "sameness": "the map is the same for another text",
    "familiarity": "the picture is unlike the films that the encoder is calibrated on",
}


def localize(
    encoder: Encoder,
    image: NDArray[np.float32],
    phrases: Sequence[str],
    *,
    method: str = "gscorecam",
    refine: Refiner | None = None,
    thresholds: Calibration | None = None,
    lungs: Lungs | None = None,
    spacing: Spacing | None = None,
) -> list[Localization]:
    """Find phrases in a picture.

    Args:
        encoder: whose image tower is looked into.
        image: (height, width) float32 grey in [0, 1], as read.
        phrases: each names one finding, with a side if need be.
        method: one of `retrieval.localize.saliency.maps.METHODS`.
        refine: follows the edges of the masks; None leaves them to the random field.
        thresholds: when a map is believed; None: the one kept for this encoder and method, if there is one,
            else a mask is given where the phrase's peak beats nearly all others, and the answer says so.
        lungs: masks of the patient's lungs, for words about them.
        spacing: millimetres of a pixel of `image`, for sizes; None assumes a field (`regions.FILM_MM`).

    Returns:
        An answer to each phrase, in order; what cannot be answered by a mask has a reason instead.

    Raises:
        UsageError: a phrase is empty or a report, the picture is blank or tiny, or the method is unknown.
        EncoderError: the encoder has no map of features, or the picture cannot be encoded.
    """
    questions = [read_question(phrase) for phrase in phrases]
    require_picture(image)
    if not questions:
        return []
    calibration = thresholds or find_calibration(encoder.fingerprint, method)
    texts = encoder.encode_texts([question.phrase for question in questions])
    references = None if calibration is None else calibration.references
    maps, statistics = measure(encoder, image, texts, method, Contrasts(encoder), references)
    heats = [scaled(maps.over(place)) for place in range(len(questions))]
    masks = clean_masks(image, heats, [question.finding for question in questions], spacing)
    if calibration is None:
        believed, threshold = statistics[:, _CONTRAST], UNCALIBRATED
    else:
        believed, threshold = calibration.believe(statistics), calibration.threshold
    answers = []
    for place, question in enumerate(questions):
        refusal = question.refusal
        if refusal is None and believed[place] < threshold:
            against = "contrast" if calibration is None else calibration.weakest(statistics[place])
            refusal = f"No mask: the map does not single out the phrase; {_AGAINST[against]}."
        if refusal is None:
            refusal = unusable(question, masks[place])
        found = Localization(
            question.phrase, question.finding, method, None, heats[place], None, refusal,
            float(believed[place]), float(threshold),
        )  # fmt: skip
        if refusal is None:
            note = NOT_CALIBRATED if calibration is None else None
            found = with_mask(found, image, masks[place], refine, lungs, note)
        answers.append(replace(found, spacing=spacing))
    return answers


def with_mask(
    answer: Localization,
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    refine: Refiner | None = None,
    lungs: Lungs | None = None,
    note: str | None = None,
) -> Localization:
    """Give an answer its mask, which is not empty: refined, boxed and put into words; `note` qualifies it."""
    if refine is not None:
        mask = refine.refine(image, answer.heat, mask, boxes_of(mask))
    where = locate(mask, answer.finding, lungs)
    return Localization(
        answer.phrase, answer.finding, answer.method, None if refine is None else refine.name, answer.heat,
        mask, note, answer.specificity, answer.threshold, boxes_of(mask),
        where.side, where.zone, where.share, where.words,
    )  # fmt: skip


def unusable(question: Question, mask: NDArray[np.bool_]) -> str | None:
    """Why a mask that is believed still answers nothing, if so."""
    if not mask.any():
        return "No mask: the map is level, it points nowhere."
    found = side_of(mask)
    if question.side in (None, "both") or found in ("both", question.side):
        return None
    return f"No mask: the phrase says {question.side}, and the map lies on the {found} side."


def require_picture(image: NDArray[np.float32]) -> None:
    """Refuse a picture in which nothing can be found.

    Raises:
        UsageError: it is tiny, blank, or holds values that are not finite.
    """
    if image.ndim != 2 or min(image.shape) < MIN_SIDE:
        raise UsageError(f"a picture of {' × '.join(map(str, image.shape))} is too small to find anything in")
    if not np.isfinite(image).all():
        raise UsageError("the picture holds values that are not finite")
    if image.min() == image.max():
        raise UsageError(
            "the picture is blank: all its pixels have one value, and nothing can be found in it"
        )
