"""The localizers that can be measured, by name: methods of looking into an encoder, and segmenters."""

from collections.abc import Mapping, Sequence
from functools import partial

from corpus.errors import UsageError
from retrieval.localize.evaluation.evaluate import Localizer
from retrieval.localize.localize import localize
from retrieval.localize.refine.refiner import Refiner
from retrieval.localize.saliency.maps import METHODS
from retrieval.localize.segmentation import segment_phrases
from trainer.runtime.encoder import Encoder
from trainer.runtime.segmenter import Segmenter


def row_names(asked: Sequence[str]) -> list[str]:
    """The methods asked for, each once; all where none is.

    Raises:
        UsageError: there is no method of that name.
    """
    unknown = next((name for name in asked if name not in METHODS), None)
    if unknown is not None:
        raise UsageError(f"unknown method {unknown!r}; known are {', '.join(METHODS)}")
    return list(dict.fromkeys(asked)) or list(METHODS)


def localizers_of(
    encoder: Encoder, names: Sequence[str], refine: Refiner | None = None
) -> Mapping[str, Localizer]:
    """Each method as a localizer of this encoder; `refine` follows the edges of all masks."""
    return {name: partial(localize, encoder, method=name, refine=refine) for name in names}


def segmenter_rows(
    folders: Sequence[str], device: str, refine: Refiner | None = None
) -> dict[str, Localizer]:
    """Each segmenter as a localizer, `segmenter NAME`.

    Raises:
        EncoderError: a folder holds no whole segmenter.
    """
    segmenters = [Segmenter.load(folder, device) for folder in folders]
    return {
        f"segmenter {segmenter.name}": partial(segment_phrases, segmenter, refine=refine)
        for segmenter in segmenters
    }
