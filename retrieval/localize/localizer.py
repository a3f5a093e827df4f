"""Who localizes: an encoder's maps or a segmenter, behind one call."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.dicom.spacing import Spacing
from retrieval.localize.answer import Localization
from retrieval.localize.localize import localize
from retrieval.localize.refine.refiner import Refiner
from retrieval.localize.segmentation import METHOD, segment_phrases
from trainer.runtime.encoder import Encoder
from trainer.runtime.segmenter import Segmenter


class Ask(Protocol):
    """Answers phrases about one image."""

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
    """Something that can be asked where a phrase is.

    `name` and `fingerprint` of the encoder or the segmenter; `method` and `refined_by` as answers tell them.
    """

    name: str
    fingerprint: str
    method: str
    refined_by: str | None
    ask: Ask

    @classmethod
    def by_maps(cls, encoder: Encoder, method: str, refine: Refiner | None) -> "Localizer":
        """By an encoder's saliency maps."""
        asked = partial(localize, encoder, method=method, refine=refine)
        return cls(encoder.name, encoder.fingerprint, method, refine.name if refine else None, asked)

    @classmethod
    def by_segmenter(cls, segmenter: Segmenter, refine: Refiner | None) -> "Localizer":
        """By a segmenter that learned from such maps."""
        asked = partial(segment_phrases, segmenter, refine=refine)
        return cls(segmenter.name, segmenter.fingerprint, METHOD, refine.name if refine else None, asked)
