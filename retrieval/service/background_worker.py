"""The background worker: an index worker that computes maps, correspondences and drafts for the service."""

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from corpus.settings import settings
from corpus.worker import Answer, lower_priority
from indexer.index import Index
from retrieval.export.formats import Form
from retrieval.export.source import SourceImage
from retrieval.query.image import QueryImage
from retrieval.service import index_worker
from retrieval.service.decode_worker import png
from retrieval.service.uploads import SENT_IMAGE

if TYPE_CHECKING:
    from retrieval.localize.answer import Localization
    from retrieval.localize.refine.refiner import Refiner

Method = Literal["gscorecam", "gradcam", "m2ib", "patches"]

_MAP_PIXELS = 512  # longer side of a map: it is smooth, and a page stretches it


def work(setup: Mapping[str, Any]) -> Answer:
    """Prepare an index worker of lower priority: searches go first."""
    lower_priority()
    return index_worker.work(setup)


def pinned(index: Index, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function with the index pinned to the version that is active now."""
    return call(index.pinned(), *args, **kwargs)


def load(index: Index) -> None:
    """Load the active version's encoder and the mask refiner, so that the first call is no slower."""
    index.encoder  # noqa: B018
    _refiner()


def localize(
    index: Index, image: QueryImage, phrases: Sequence[str], method: Method | None
) -> list[dict[str, Any]]:
    """Localize phrases in an image; each result is the contract's JSON with its map as `heat`."""
    results = _localizations(index, image, phrases, method)
    return [{**result.as_json(), "heat": _heat(result.heat)} for result in results]


def export(
    index: Index,
    image: QueryImage,
    phrase: str,
    method: Method | None,
    form: Form,
    source: SourceImage | None,
) -> bytes:
    """Localize a phrase in an image and return the result as a file; `source` is of a DICOM image.

    Raises:
        ExportError: the result has no such file, see `retrieval.export.formats.render`.
    """
    from retrieval.export.formats import render

    (result,) = _localizations(index, image, [phrase], method)
    return render(form, image.pixels, result, source, index.active_version.fingerprint)


def _localizations(
    index: Index, image: QueryImage, phrases: Sequence[str], method: Method | None
) -> "list[Localization]":
    from retrieval.localize.localizer import localize as localize_phrases
    from retrieval.localize.specificity.calibration import find_calibration, method_for

    home, fingerprint = index.home.folder, index.active_version.fingerprint
    chosen = method_for(fingerprint, method, home)
    calibration = find_calibration(fingerprint, chosen, home)
    return localize_phrases(
        index.encoder, image.pixels, phrases, method=chosen, refine=_refiner(), calibration=calibration,
        spacing=image.spacing,
    )  # fmt: skip


@cache
def _refiner() -> "Refiner | None":
    """Open the mask refiner once: its checkpoint takes seconds to load."""
    from retrieval.localize.refine.refiner import open_refiner

    return open_refiner(None, settings().device)


def correspondence(index: Index, pixels: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, Any]:
    """Return which patches of one image match which of another, as the JSON of `/v1/likeness`."""
    from retrieval.localize import correspondence as patches

    found = patches.find_correspondence(index.encoder, pixels, other)
    return {
        "query_heat": _heat(found.query),
        "hit_heat": _heat(found.hit),
        "pairs": [pair.as_json() for pair in found.pairs],
        "matches": [pair.as_json() for pair in found.matches],
    }


def draft(index: Index, image: QueryImage, k: int, where: str | None) -> dict[str, Any]:
    """Draft a report of an image; returns the contract's JSON and the whole draft as `text`."""
    from retrieval.draft import draft as drafts

    phrase_localizer = drafts.localizer(index)
    made = drafts.draft(index, SENT_IMAGE, k=k, where=where, phrase_localizer=phrase_localizer, decoded=image)
    return {**made.as_json(), "text": made.text()}


def _heat(heat: NDArray[np.float32]) -> str:
    task = {"low": 0.0, "high": 1.0, "longest": _MAP_PIXELS, "depth": 8}
    return base64.b64encode(png(np.ascontiguousarray(heat, np.float32), task)).decode()
