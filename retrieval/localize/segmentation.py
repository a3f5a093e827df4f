"""One more localizer: a segmenter that learned from the others' masks, asked like them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from corpus.dicom.spacing import Spacing
from corpus.errors import UsageError
from retrieval.localize.answer import Localization
from retrieval.localize.localize import require_picture, unusable, with_mask
from retrieval.localize.mask_location import Lungs
from retrieval.localize.question import Question, read_question
from retrieval.localize.refine.refiner import Refiner
from trainer.runtime.segmenter import Segmenter
from trainer.runtime.segmenter_thresholds import PLAIN

METHOD = "segmenter"
_DOUBTFUL = 0.25  # mean disagreement of the checkpoints within a mask from which the answer says so


def segment_phrases(
    segmenter: Segmenter,
    image: NDArray[np.float32],
    phrases: Sequence[str],
    *,
    refine: Refiner | None = None,
    lungs: Lungs | None = None,
    spacing: Spacing | None = None,
) -> list[Localization]:
    """Find phrases in a picture by a segmenter. A side in the phrase is held against where the mask lies.

    Args:
        segmenter: knows some structures and no others.
        image: (height, width) float32 grey in [0, 1], as read.
        phrases: each names one structure, with a side if need be.
        refine: follows the edges of the masks.
        lungs: masks of the patient's lungs, for words about them.
        spacing: millimetres of a pixel of `image`, for the sizes that an answer tells.

    Returns:
        An answer to each phrase, in order. `heat` is the probability; `specificity` its largest value; where
        that is below the structure's cut, or the segmenter has not learned it, there is a reason and no mask.

    Raises:
        UsageError: a phrase is empty or a report, or the picture is blank or tiny.
    """
    questions = [read_question(phrase) for phrase in phrases]
    require_picture(image)
    if not questions:
        return []
    [drawn] = segmenter.segment([image])
    answers = []
    for question in questions:
        channel = _channel(segmenter, question)
        heat = np.zeros(image.shape, np.float32) if channel is None else drawn.probability[channel]
        cut = PLAIN if channel is None else segmenter.cuts[channel]
        mask = heat >= cut
        refusal = question.refusal or _unknown(segmenter, question, channel)
        if refusal is None and not mask.any():
            refusal = "No mask: nowhere in the picture does the segmenter think it likely enough."
        refusal = refusal or unusable(question, mask)
        found = Localization(
            question.phrase, question.finding, METHOD, None, heat, None, refusal, float(heat.max()), cut
        )
        if refusal is None and channel is not None:
            doubt = float(drawn.uncertainty[channel][mask].mean())
            note = "The checkpoints of the segmenter differ about it." if doubt >= _DOUBTFUL else None
            found = with_mask(found, image, mask, refine, lungs, note)
        answers.append(replace(found, spacing=spacing))
    return answers


def _channel(segmenter: Segmenter, question: Question) -> int | None:
    named = segmenter.channel(question.phrase)
    if named is None and question.finding is not None:
        named = segmenter.channel(question.finding)
    return named


def _unknown(segmenter: Segmenter, question: Question, channel: int | None) -> str | None:
    if channel is not None:
        return None
    known = ", ".join(name.replace("_", " ") for name in segmenter.structures)
    return f"No mask: the segmenter has not learned this; it knows {known}."


def require_known(segmenter: Segmenter, phrases: Sequence[str]) -> None:
    """Refuse phrases of which the segmenter has learned none, before a whole corpus is gone through.

    Raises:
        UsageError: naming what it has learned.
    """
    if not any(_channel(segmenter, read_question(phrase)) is not None for phrase in phrases):
        known = ", ".join(name.replace("_", " ") for name in segmenter.structures)
        raise UsageError(f"the segmenter {segmenter.name} knows {known}, none of what was asked for")
