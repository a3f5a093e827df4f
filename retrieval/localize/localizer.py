"""Localizers: an encoder's saliency maps or a segmenter, behind one call. Map → mask → words, or a reason.

`localize` asks an encoder, `segment_phrases` a segmenter. Both return an answer to each phrase: a mask with
its location in words, or a sentence that says why there is no mask.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.dicom.spacing import Spacing
from corpus.errors import UsageError
from corpus.extras import LOCALIZE, needs_extra
from corpus.images.reader import MIN_SIDE
from retrieval.localize.answer import Localization
from retrieval.localize.mask_location import Lungs, laterality_of, locate
from retrieval.localize.question import Question, read_question
from retrieval.localize.refine.refiner import Refiner
from retrieval.localize.refine.regions import boxes_of, clean_masks, largest_pixels, largest_region
from retrieval.localize.saliency.maps import METHODS, scaled
from retrieval.localize.specificity.calibration import (
    UNCALIBRATED,
    UNTRAINED,
    SpecificityCalibration,
    find_calibration,
)
from retrieval.localize.specificity.map_statistics import STATISTICS, Contrasts, measure
from trainer.runtime.encoder import Encoder

if TYPE_CHECKING:
    from trainer.runtime.segmenter import Segmenter

SEGMENTER = "segmenter"
"""The method of a segmenter's answers."""

NOT_CALIBRATED = (
    "This encoder is not calibrated for localization here, so that the mask is not checked against absent "
    "findings: run `similarity localize --calibrate SOURCE`."
)

_CONTRAST = STATISTICS.index("contrast")
_DOUBTFUL = 0.25  # mean disagreement of the checkpoints within a mask from which the answer states it
_AGAINST = {
    "peak": "no part of the image is nearer to it than in images without it",
    "excess": "no part of the image is nearer to it than the same part of images without it",
    "similarity": "the image as a whole is no nearer to it than images without it",
    "contrast": "the map responds to other findings as strongly",
    "focus": "the map is spread over the image",
    "sameness": "the map is the same for another text",
    "familiarity": "the image is unlike those that the encoder is calibrated on",
}
"""The reason against a mask, by the statistic that speaks most against its map."""


class LocalizePhrases(Protocol):
    """Localizes phrases in one image."""

    def __call__(
        self, image: NDArray[np.float32], phrases: Sequence[str], /, *, spacing: Spacing | None = None
    ) -> list[Localization]:
        """Return an answer to each phrase.

        Args:
            image: (height, width) float32 in [0, 1].
            phrases: each names one finding.
            spacing: millimetres of a pixel, where they are known.
        """
        ...


@dataclass(frozen=True, slots=True)
class Localizer:
    """A localizer and the names under which its answers are recorded.

    `name`, `fingerprint`: of the encoder or the segmenter.
    `method`, `refined_by`: as in its answers.
    `localize`: the call.
    """

    name: str
    fingerprint: str
    method: str
    refined_by: str | None
    localize: LocalizePhrases

    @classmethod
    def by_maps(
        cls, encoder: Encoder, method: str, refine: Refiner | None, home: Path | None = None
    ) -> "Localizer":
        """Localize by an encoder's saliency maps; `home`: folder of the calibrations, default the setting."""
        call = method_localizers(encoder, [method], refine, home)[method]
        return cls(encoder.name, encoder.fingerprint, method, refine.name if refine else None, call)

    @classmethod
    def by_segmenter(cls, segmenter: "Segmenter", refine: Refiner | None) -> "Localizer":
        """Localize by a segmenter that was trained on such maps."""
        call = partial(segment_phrases, segmenter, refine=refine)
        return cls(segmenter.name, segmenter.fingerprint, SEGMENTER, refine.name if refine else None, call)


def method_names(names: Sequence[str]) -> list[str]:
    """The named methods, each once; all methods where none is named.

    Raises:
        UsageError: there is no method of that name.
    """
    unknown = next((name for name in names if name not in METHODS), None)
    if unknown is not None:
        raise UsageError(f"unknown method {unknown!r}; known are {', '.join(METHODS)}")
    return list(dict.fromkeys(names)) or list(METHODS)


def method_localizers(
    encoder: Encoder, names: Sequence[str], refine: Refiner | None = None, home: Path | None = None
) -> Mapping[str, LocalizePhrases]:
    """Method → localizer of this encoder, by the stored calibration of the method if there is one.

    Args:
        encoder: its image tower makes the maps.
        names: of the methods.
        refine: follows the edges of all masks.
        home: folder of the calibrations; None: the setting.

    Raises:
        EncoderError: a calibration is damaged.
    """
    return {
        name: partial(
            localize, encoder, method=name, refine=refine,
            calibration=find_calibration(encoder.fingerprint, name, home),
        )
        for name in names
    }  # fmt: skip


def load_segmenter(folder: str, device: str) -> "Segmenter":
    """Load a segmenter, a network of torch.

    Raises:
        EncoderError: the folder holds no whole segmenter, or torch is not installed.
    """
    with needs_extra("a segmenter", LOCALIZE):
        from trainer.runtime.segmenter import Segmenter  # late: torch
    return Segmenter.load(folder, device)


def segmenter_localizers(
    folders: Sequence[str], device: str, refine: Refiner | None = None
) -> dict[str, LocalizePhrases]:
    """`segmenter NAME` → localizer, for each segmenter.

    Raises:
        EncoderError: as `load_segmenter`.
    """
    segmenters = [load_segmenter(folder, device) for folder in folders]
    return {
        f"segmenter {segmenter.name}": partial(segment_phrases, segmenter, refine=refine)
        for segmenter in segmenters
    }


def localize(
    encoder: Encoder,
    image: NDArray[np.float32],
    phrases: Sequence[str],
    *,
    method: str = UNTRAINED,
    refine: Refiner | None = None,
    calibration: SpecificityCalibration | None = None,
    lungs: Lungs | None = None,
    spacing: Spacing | None = None,
) -> list[Localization]:
    """Localize phrases in an image by an encoder's saliency maps.

    Args:
        encoder: its image tower makes the maps.
        image: (height, width) float32 grey in [0, 1], as read.
        phrases: each names one finding, with a side if need be.
        method: one of `retrieval.localize.saliency.maps.METHODS`.
        refine: follows the edges of the masks; None leaves them to the random field.
        calibration: of this encoder and method, decides when a map is specific enough for a mask. None: a
            mask is returned where the phrase's peak exceeds nearly all others, and the answer states it.
        lungs: masks of the patient's lungs, for the location in words.
        spacing: millimetres of a pixel of `image`, for sizes; None: `regions.ASSUMED_FIELD_MM`.

    Returns:
        An answer to each phrase, in order; without a mask there is a reason.

    Raises:
        UsageError: a phrase is empty or a report, the image is blank or tiny, or the method is unknown.
        EncoderError: the encoder has no map of features, or the image cannot be encoded.
    """
    questions = [read_question(phrase) for phrase in phrases]
    require_usable_image(image)
    if not questions:
        return []
    texts = encoder.encode_texts([question.phrase for question in questions])
    references = None if calibration is None else calibration.references
    maps, statistics = measure(encoder, image, texts, method, Contrasts(encoder), references)
    heats = [scaled(maps.over(number)) for number in range(len(questions))]
    masks = clean_masks(image, heats, [question.finding for question in questions], spacing)
    if calibration is None:
        specificity, threshold = statistics[:, _CONTRAST], UNCALIBRATED
    else:
        specificity, threshold = calibration.specificity(statistics), calibration.threshold
    answers = []
    for number, question in enumerate(questions):
        refusal = question.refusal
        if refusal is None and specificity[number] < threshold:
            against = "contrast" if calibration is None else calibration.weakest(statistics[number])
            refusal = f"No mask: the map does not single out the phrase; {_AGAINST[against]}."
        if refusal is None:
            refusal = unusable(question, masks[number])
        answer = Localization(
            question.phrase, question.finding, method, None, heats[number], None, refusal,
            float(specificity[number]), float(threshold),
        )  # fmt: skip
        if refusal is None:
            note = NOT_CALIBRATED if calibration is None else None
            answer = with_mask(answer, question, image, masks[number], refine, lungs, note, spacing)
        answers.append(replace(answer, spacing=spacing))
    return answers


def segment_phrases(
    segmenter: "Segmenter",
    image: NDArray[np.float32],
    phrases: Sequence[str],
    *,
    refine: Refiner | None = None,
    lungs: Lungs | None = None,
    spacing: Spacing | None = None,
) -> list[Localization]:
    """Localize phrases in an image by a segmenter. A side in the phrase is compared with the mask's.

    Args:
        segmenter: knows some structures and no others.
        image: (height, width) float32 grey in [0, 1], as read.
        phrases: each names one structure, with a side if need be.
        refine: follows the edges of the masks.
        lungs: masks of the patient's lungs, for the location in words.
        spacing: millimetres of a pixel of `image`, for sizes.

    Returns:
        An answer to each phrase, in order. `heat` is the probability, `specificity` its largest value. Below
        the structure's threshold, or for a structure that the segmenter has not learned, there is a reason
        and no mask.

    Raises:
        UsageError: a phrase is empty or a report, or the image is blank or tiny.
    """
    from trainer.runtime.segmenter import DEFAULT_THRESHOLD  # late: torch, which the segmenter has imported

    questions = [read_question(phrase) for phrase in phrases]
    require_usable_image(image)
    if not questions:
        return []
    [segmented] = segmenter.segment([image])
    answers = []
    for question in questions:
        channel = _channel(segmenter, question)
        heat = np.zeros(image.shape, np.float32) if channel is None else segmented.probability[channel]
        threshold = DEFAULT_THRESHOLD if channel is None else segmenter.thresholds[channel]
        mask = heat >= threshold
        refusal = question.refusal or _unlearned(segmenter, channel)
        if refusal is None and not mask.any():
            refusal = "No mask: nowhere in the image does the segmenter think it likely enough."
        refusal = refusal or unusable(question, mask)
        answer = Localization(
            question.phrase,
            question.finding,
            SEGMENTER,
            None,
            heat,
            None,
            refusal,
            float(heat.max()),
            threshold,
        )
        if refusal is None and channel is not None:
            doubt = float(segmented.uncertainty[channel][mask].mean())
            note = "The checkpoints of the segmenter differ about it." if doubt >= _DOUBTFUL else None
            answer = with_mask(answer, question, image, mask, refine, lungs, note, spacing)
        answers.append(replace(answer, spacing=spacing))
    return answers


def with_mask(
    answer: Localization,
    question: Question,
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    refine: Refiner | None = None,
    lungs: Lungs | None = None,
    note: str | None = None,
    spacing: Spacing | None = None,
) -> Localization:
    """The answer with a non-empty mask: refined, boxed and located in words; `note` qualifies it.

    A refined mask that is too large for the finding, or on another side than the phrase's, is not used.
    """
    refined_by = None
    if refine is not None:
        largest = largest_pixels(answer.finding, image.shape, spacing)
        if not _within_size(mask, largest):
            largest = None  # a segmenter's mask has no bound before refinement either
        refined = refine.refine(image, answer.heat, mask, boxes_of(mask), largest=largest)
        if unusable(question, refined) is None and _within_size(refined, largest):
            mask, refined_by = refined, refine.name
    location = locate(mask, answer.finding, lungs)
    return Localization(
        answer.phrase, answer.finding, answer.method, refined_by, answer.heat,
        mask, note, answer.specificity, answer.threshold, boxes_of(mask),
        location.laterality, location.zone, location.share, location.words,
    )  # fmt: skip


def _within_size(mask: NDArray[np.bool_], largest: float | None) -> bool:
    """Whether no region has more pixels than a disc of the largest diameter."""
    return largest is None or largest_region(mask) <= max(1, math.ceil(math.pi / 4 * largest**2))


def unusable(question: Question, mask: NDArray[np.bool_]) -> str | None:
    """Why a mask from a specific map is still no answer; None where it is one."""
    if not mask.any():
        return "No mask: the map is level, it points nowhere."
    side = laterality_of(mask)
    if question.side in (None, "both") or side in ("both", question.side):
        return None
    return f"No mask: the phrase says {question.side}, and the map lies on the {side} side."


def require_usable_image(image: NDArray[np.float32]) -> None:
    """Refuse an image in which nothing can be found.

    Raises:
        UsageError: it is tiny, blank, or holds values that are not finite.
    """
    if image.ndim != 2 or min(image.shape) < MIN_SIDE:
        raise UsageError(f"an image of {' × '.join(map(str, image.shape))} is too small to find anything in")
    if not np.isfinite(image).all():
        raise UsageError("the image holds values that are not finite")
    if image.min() == image.max():
        raise UsageError("the image is blank: all its pixels have one value, and nothing can be found in it")


def require_learned(segmenter: "Segmenter", phrases: Sequence[str]) -> None:
    """Refuse phrases of which the segmenter has learned none, before a whole corpus is processed.

    Raises:
        UsageError: the segmenter has learned none of them; the message lists what it has learned.
    """
    if not any(_channel(segmenter, read_question(phrase)) is not None for phrase in phrases):
        raise UsageError(
            f"the segmenter {segmenter.name} knows {_known(segmenter)}, none of what was asked for"
        )


def _channel(segmenter: "Segmenter", question: Question) -> int | None:
    named = segmenter.channel(question.phrase)
    if named is None and question.finding is not None:
        named = segmenter.channel(question.finding)
    return named


def _unlearned(segmenter: "Segmenter", channel: int | None) -> str | None:
    if channel is not None:
        return None
    return f"No mask: the segmenter has not learned this; it knows {_known(segmenter)}."


def _known(segmenter: "Segmenter") -> str:
    return ", ".join(name.replace("_", " ") for name in segmenter.structures)
