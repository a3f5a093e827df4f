"""Refiners: what turns the rough mask of a saliency map into one that follows the edges in the film.

A map tells where a finding is, not where it ends: a refiner looks at the film again, around the map's
regions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from corpus.errors import UsageError
from corpus.settings import settings
from retrieval.localize.answer import Box

CHOICES = "sam, sam:NAME, sam:FILE, random-walker or none"


class Refiner(Protocol):
    """Follows the edges of a rough mask. Threads may share one.

    `name`: what the answer calls it, `refined_by`.
    """

    name: str

    def refine(
        self,
        image: NDArray[np.float32],
        heat: NDArray[np.float32],
        mask: NDArray[np.bool_],
        boxes: Sequence[Box],
    ) -> NDArray[np.bool_]:
        """Return a mask that follows the film.

        Args:
            image: (height, width) float32 grey in [0, 1].
            heat: (height, width) float32 in [0, 1], the map that the mask was cut from.
            mask: (height, width) bool, not empty.
            boxes: of the mask's components, in pixels of the image.

        Returns:
            (height, width) bool, not empty; a component that the refiner makes nothing of stays as it was.
        """
        ...


def open_refiner(choice: str | None = None, device: str = "auto") -> Refiner | None:
    """Make the refiner that a user names.

    Args:
        choice: `none`; `random-walker`; `sam:NAME`, one of `trainer.models.catalog`, fetched if need be;
            `sam:FILE`, a checkpoint; or `sam`, whichever known checkpoint is on this machine already, the
            lightest first, and the random walker where there is none. None: what `SIMILARITY_REFINE` says,
            else `sam`.
        device: where SAM runs: auto or a torch device name.

    Raises:
        UsageError: it is none of these.
        EncoderError: the checkpoint cannot be had, or does not fit.
    """
    choice = settings().refine if choice is None else choice
    kind, _, which = choice.strip().partition(":")
    if (kind, which) == ("none", ""):
        return None
    if kind == "sam" and (which or choice == "sam"):
        from retrieval.localize.refine.sam import SamRefiner

        checkpoint = which or _installed()
        if checkpoint is not None:
            return SamRefiner.load(checkpoint, device=device)
    elif (kind, which) != ("random-walker", ""):
        raise UsageError(f"--refine and SIMILARITY_REFINE take {CHOICES}, not {choice[:80]!r}")
    from retrieval.localize.refine.random_walker import RandomWalkerRefiner

    return RandomWalkerRefiner()


def _installed() -> str | None:
    """The lightest known checkpoint that is on this machine."""
    from trainer.models.catalog import KNOWN
    from trainer.models.resolve import is_here

    here = [known for known in KNOWN if known.kind == "sam" and is_here(known)]
    return min(here, key=lambda known: known.size or 0).name if here else None


def checkpoint_file(checkpoint: str) -> tuple[str, Path]:
    """The name under which an answer tells a checkpoint, and its file.

    Raises:
        EncoderError: a known one is not here and cannot be fetched, or is not what was published.
    """
    from trainer.models.catalog import find_known
    from trainer.models.resolve import pull

    known = find_known(checkpoint, "sam")
    if known is not None:
        return known.name, pull(known.name)
    path = Path(checkpoint).expanduser()
    return path.stem, path
