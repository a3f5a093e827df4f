"""The life of a process that makes maps and drafts for the service, and what it can be asked.

It works on the index as a command does, through the service that owns it. Calls and answers are pickled:
both ends are this program, and what others sent was turned into pixels elsewhere (`picture_worker`).
"""

import base64
import pickle
import signal
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from corpus.settings import settings
from corpus.worker import Answer, give_way
from indexer.index import Index
from retrieval.export.formats import Form
from retrieval.export.source import Source
from retrieval.query.image import Picture
from retrieval.service import logs
from retrieval.service.image_worker import png
from retrieval.service.uploads import PICTURE

if TYPE_CHECKING:
    from retrieval.localize.answer import Localization
    from retrieval.localize.refine.refiner import Refiner

Method = Literal["gscorecam", "gradcam", "m2ib", "patches"]

_MAP_PIXELS = 512  # of a map's longer side: it is smooth, and a page stretches it


def work(setup: Mapping[str, Any]) -> Answer:
    """Get a worker ready: `setup` holds the `home` whose index it works on.

    A task's body is (function, args, kwargs), pickled; the function is given the index first. An answer's is
    (True, what it returned) or (False, what it raised).
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    give_way()  # searches go first
    logs.configure()
    opened: list[Index] = []

    def answer(_task: Mapping[str, Any], body: bytearray) -> tuple[Mapping[str, Any], bytes]:
        call, args, kwargs = pickle.loads(body)
        try:
            if not opened:
                opened.append(Index.open(Path(setup["home"])))
            told = True, call(opened[0].pinned(), *args, **kwargs)
        except Exception as error:  # handed on to whoever waits for it
            told = False, error
        return {}, pickle.dumps(told)

    return answer


def load(index: Index) -> None:
    """Load the active version's encoder and the refiner, so that the first call is as fast as the next."""
    index.encoder  # noqa: B018
    _refiner()


def localize(
    index: Index, picture: Picture, phrases: Sequence[str], method: Method | None
) -> list[dict[str, Any]]:
    """Where phrases are in a picture, each as the contract tells it, with its map as `heat`."""
    found = _localized(index, picture, phrases, method)
    return [{**one.as_json(), "heat": _heat(one.heat)} for one in found]


def export(
    index: Index,
    picture: Picture,
    phrase: str,
    method: Method | None,
    form: Form,
    source: Source | None,
) -> bytes:
    """A file of where a phrase is in a picture; `source`: of a picture that is DICOM.

    Raises:
        ExportError: there is no such file of the answer, see `retrieval.export.formats.render`.
    """
    from retrieval.export.formats import render

    (found,) = _localized(index, picture, [phrase], method)
    return render(form, picture.pixels, found, source, index.active_version.fingerprint)


def _localized(
    index: Index, picture: Picture, phrases: Sequence[str], method: Method | None
) -> "list[Localization]":
    from retrieval.localize.localize import localize as find
    from retrieval.localize.specificity.calibration import method_for

    by = method_for(index.active_version.fingerprint, method)
    return find(index.encoder, picture.pixels, phrases, method=by, refine=_refiner(), spacing=picture.spacing)


@cache
def _refiner() -> "Refiner | None":
    """What follows the edges of masks here: opened once, for a checkpoint takes seconds."""
    from retrieval.localize.refine.refiner import open_refiner

    return open_refiner(None, settings().device)


def likeness(index: Index, pixels: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, Any]:
    """What of one picture is like what of another."""
    from retrieval.localize import correspondence as matching

    alike = matching.likeness(index.encoder, pixels, other)
    return {
        "query_heat": _heat(alike.query),
        "hit_heat": _heat(alike.hit),
        "pairs": [pair.as_json() for pair in alike.pairs],
        "matches": [pair.as_json() for pair in alike.matches],
    }


def draft(index: Index, picture: Picture, k: int, where: str | None) -> dict[str, Any]:
    """A draft as the contract tells it, and as `text`."""
    from retrieval.draft import draft as drafting

    shows = drafting.localizer(index)
    made = drafting.draft(index, PICTURE, k=k, where=where, localizing=shows, picture=picture)
    return {**made.as_json(), "text": made.text()}


def _heat(heat: NDArray[np.float32]) -> str:
    task = {"low": 0.0, "high": 1.0, "longest": _MAP_PIXELS, "depth": 8}
    return base64.b64encode(png(np.ascontiguousarray(heat, np.float32), task)).decode()
