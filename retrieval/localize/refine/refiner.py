"""Refiners: make the rough mask of a saliency map follow the edges in the image.

A map shows where a finding is, not where it ends: a refiner examines the image again, around the map's
regions.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.errors import NotInstalled, UsageError
from corpus.extras import LOCALIZE, needs_extra
from corpus.geometry import Box
from corpus.settings import settings

CHOICES = "sam, sam:NAME, sam:FILE, random-walker or none"


class Refiner(Protocol):
    """Follows the edges of a rough mask. Threads may share one.

    `name`: its name in an answer, `refined_by`.
    """

    name: str

    def refine(
        self,
        image: NDArray[np.float32],
        heat: NDArray[np.float32],
        mask: NDArray[np.bool_],
        boxes: Sequence[Box],
        *,
        largest: float | None = None,
    ) -> NDArray[np.bool_]:
        """Return a mask that follows the edges of the image.

        Args:
            image: (height, width) float32 grey in [0, 1].
            heat: (height, width) float32 in [0, 1], the map that the mask was derived from.
            mask: (height, width) bool, not empty.
            boxes: of the mask's components, in pixels of the image.
            largest: pixels, the largest diameter of the finding; None without a bound. A prompt is not
                enlarged beyond it; the caller checks the mask.

        Returns:
            (height, width) bool, not empty; a component that the refiner finds nothing for is unchanged.
        """
        ...


def open_refiner(choice: str | None = None, device: str = "auto") -> Refiner | None:
    """Return the refiner of a name, or None for `none`.

    Args:
        choice: `none`; `random-walker`; `sam:NAME`, one of `trainer.models.catalog`, downloaded if missing;
            `sam:FILE`, a checkpoint; or `sam`, the smallest known checkpoint that is on this machine already
            (LiteMedSAM, where the extra `localize` is installed), or the random walker where there is none,
            or no torch. None: the setting `SIMILARITY_REFINE`, else `sam`.
        device: where SAM runs: auto or a torch device name.

    Raises:
        UsageError: the choice is none of these.
        EncoderError: the checkpoint is unavailable, or does not fit.
        NotInstalled: a checkpoint was named, and torch is missing.
    """
    choice = settings().refine if choice is None else choice
    kind, _, named = choice.strip().partition(":")
    if (kind, named) == ("none", ""):
        return None
    if kind == "sam" and (named or choice == "sam"):
        checkpoint = named or installed_checkpoint()
        if checkpoint is not None:
            try:
                with needs_extra("the refiner SAM", LOCALIZE):
                    from retrieval.localize.refine.sam import SamRefiner  # late: torch
            except NotInstalled:
                if named:
                    raise
            else:
                return SamRefiner.load(checkpoint, device=device)
    elif (kind, named) != ("random-walker", ""):
        raise UsageError(f"--refine and SIMILARITY_REFINE take {CHOICES}, not {choice[:80]!r}")
    from retrieval.localize.refine.random_walker import RandomWalkerRefiner

    return RandomWalkerRefiner()


def installed_checkpoint() -> str | None:
    """The smallest known checkpoint that is on this machine; LiteMedSAM is the smallest of all."""
    from trainer.models.catalog import PUBLISHED_MODELS
    from trainer.models.resolve import is_available

    here = [known for known in PUBLISHED_MODELS if known.kind == "sam" and is_available(known)]
    return min(here, key=lambda known: known.size or 0).name if here else None
