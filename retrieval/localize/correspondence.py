"""Which part of this case is like which part of mine: patches of two pictures that choose one another.

All chests are alike, so that most patches find a partner for their place in the body alone. What counts is
what two patches share beyond it: from each is taken what films usually show at its place, where the encoder
is calibrated (`retrieval.localize.specificity.calibration`), else the mean patch of both pictures. A patch
chooses the one with which most of that agrees, and two that choose one another are as strong as it does: the
direction alone of the little that is left of usual tissue is noise.

Where the encoder is calibrated, what both say of a finding comes first: how far each passes what films say of
it at their most telling place, in the middle of all films. Only where no finding stands out in both pictures
the rest decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retrieval.localize.answer import Box
from retrieval.localize.saliency.maps import scaled
from retrieval.localize.specificity.calibration import find_references
from retrieval.localize.specificity.evidence import Contrasts, References
from trainer.runtime.encoder import Encoder, Patches

Map = NDArray[np.float32]

PAIRS = 3
_APART = 2.0  # cells between the centres of two pairs, in each picture
_LEANING = 1 / 16  # deviation, as a share of the map's side, by which patches lean on their neighbours
_REST = 0.02  # how much the rest counts, at most, beside findings that stand out by a deviation in both
_FLOOR = 1e-3  # of a deviation of cosines
_SMOOTH = 0.7  # deviation, in cells, by which maps are softened
_REACH = 1.0  # cells from a patch's centre to the edge of its box


@dataclass(frozen=True, slots=True)
class Pair:
    """A part of the query and the part of the hit that is like it. `score`: see `Likeness`."""

    query: Box
    hit: Box
    score: float

    def as_json(self) -> dict[str, Any]:
        """The contract's form."""
        return {"query": self.query.as_json(), "hit": self.hit.as_json(), "score": round(self.score, 6)}


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """Two pictures beside one another.

    `query`, `hit`: (height, width) float32 in [0, 1], how strongly each place finds its like in the other
    picture. `pairs`: at most `PAIRS`, the strongest first, whose score is 1. `matches`: every patch of the
    query, row by row, with the patch of the hit that is nearest to it, chosen by it or not; the score is the
    cosine of what both have beyond the mean patch.
    """

    query: Map
    hit: Map
    pairs: tuple[Pair, ...]
    matches: tuple[Pair, ...]

    def as_json(self) -> dict[str, Any]:
        """The contract's form, without the maps and the matches of single patches."""
        return {"pairs": [pair.as_json() for pair in self.pairs]}


def likeness(encoder: Encoder, query: Map, hit: Map, *, references: References | None = None) -> Likeness:
    """Match the patches of two pictures.

    Args:
        encoder: any with a map of features.
        query: (height, width) float32 grey in [0, 1].
        hit: the same of another size, if need be.
        references: what films usually show; None: those of the encoder's calibration, if there is one.

    Raises:
        EncoderError: a picture cannot be encoded, or the encoder has no map of features.
    """
    patches = encoder.encode_patches([query, hit])
    references = references or find_references(encoder.fingerprint)
    findings = None if references is None else Contrasts(encoder).findings
    cosines, strength, mutual = _match(patches, references, findings)
    grids = [_grid_of(strength, mutual, patches, side) for side in (0, 1)]
    maps = [
        scaled(encoder.framing.undo(grid, *image.shape))
        for grid, image in zip(grids, (query, hit), strict=True)
    ]
    shapes = query.shape, hit.shape
    pairs = tuple(_pairs(strength, mutual, patches, shapes))
    return Likeness(maps[0], maps[1], pairs, tuple(_matches(cosines, patches, shapes)))


def _match(
    patches: Patches, references: References | None, findings: NDArray[np.float32] | None
) -> tuple[Map, Map, NDArray[np.bool_]]:
    """(cells, cells) cosines and strengths of every pair, and which choose one another.

    Padding pairs with none: its cosines are −inf.
    """
    own = patches.vectors if references is None else references.residuals(patches.vectors)
    smooth = _leaning(own)
    inside = [patches.inside(side).ravel() for side in (0, 1)]
    flat = smooth.reshape(2, -1, smooth.shape[-1])
    if references is None:
        flat = flat - np.concatenate([flat[side][inside[side]] for side in (0, 1)]).mean(axis=0)
    one, other = flat
    units = [rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-12) for rest in (one, other)]
    cosines = units[0] @ units[1].T
    cosines[~inside[0]] = -np.inf
    cosines[:, ~inside[1]] = -np.inf
    agreed = np.maximum(one @ other.T, 0)
    if references is not None and findings is not None:
        mine, theirs = _standing_out(patches, references, findings)
        agreed = mine @ theirs.T + _REST * agreed / max(float(agreed.max()), 1e-12)
    strength: Map = np.where(np.isfinite(cosines), agreed, 0).astype(np.float32)
    mutual = (strength == strength.max(axis=1, keepdims=True)) & (
        strength == strength.max(axis=0, keepdims=True)
    )
    return cosines, strength, mutual & (strength > 0)


def _standing_out(
    patches: Patches, references: References, findings: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(2, cells, findings): how far a patch's cosine with a finding passes the highest of the middle film.

    In deviations of the films' highest cosines, at least 0.
    """
    highest = _leaning(references.patches @ findings.T).max(axis=(1, 2))
    said = _leaning(patches.vectors @ findings.T).reshape(2, -1, len(findings))
    usual, spread = np.median(highest, axis=0), np.maximum(highest.std(axis=0), _FLOOR)
    passing: NDArray[np.float32] = np.maximum((said - usual) / spread, 0)
    return passing


def _leaning(maps: Map) -> Map:
    """(n, gh, gw, …) maps, each place a Gaussian mean of itself and its neighbours."""
    deviations = (0.0, *(_LEANING * cells for cells in maps.shape[1:3]), 0.0)
    leaning: Map = ndimage.gaussian_filter(maps, deviations, mode="nearest")
    return leaning


def _grid_of(strength: Map, mutual: NDArray[np.bool_], patches: Patches, side: int) -> Map:
    """(gh, gw): the strength of each patch's own pair, softened."""
    own = np.where(mutual, strength, 0).max(axis=1 - side).reshape(patches.vectors.shape[1:3])
    softened: Map = ndimage.gaussian_filter(own, _SMOOTH, mode="nearest")
    return softened


def _pairs(
    strength: Map,
    mutual: NDArray[np.bool_],
    patches: Patches,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> Iterator[Pair]:
    grid = patches.vectors.shape[1:3]
    order = sorted(np.argwhere(mutual).tolist(), key=lambda pair: (-float(strength[pair[0], pair[1]]), pair))
    taken: list[NDArray[np.intp]] = []
    for cells in order:
        places = np.array([np.unravel_index(cell, grid) for cell in cells])
        if any((np.abs(places - earlier).max(axis=1) < _APART).any() for earlier in taken):
            continue
        taken.append(places)
        boxes = [_box(patches, side, places[side], shapes[side]) for side in (0, 1)]
        strongest = float(strength[order[0][0], order[0][1]])
        yield Pair(boxes[0], boxes[1], float(strength[cells[0], cells[1]]) / strongest)
        if len(taken) == PAIRS:
            return


def _matches(
    cosines: Map, patches: Patches, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> Iterator[Pair]:
    grid = patches.vectors.shape[1:3]
    nearest = cosines.argmax(axis=1)
    for cell in np.flatnonzero(patches.inside(0).ravel()).tolist():
        cells = cell, int(nearest[cell])
        boxes = [
            _box(patches, side, np.array(np.unravel_index(cells[side], grid)), shapes[side])
            for side in (0, 1)
        ]
        yield Pair(boxes[0], boxes[1], float(cosines[cells]))


def _box(patches: Patches, side: int, cell: NDArray[np.intp], shape: tuple[int, ...]) -> Box:
    """The pixels of a picture around a cell's centre, cut at the picture's edges."""
    place = patches.places[side]
    grid = patches.vectors.shape[1:3]
    spans = []
    for axis, (start, length) in enumerate(((place.top, place.height), (place.left, place.width))):
        step = patches.image_size / grid[axis]
        middle = (cell[axis] + 0.5) * step
        ends = [(middle + sign * _REACH * step - start) * shape[axis] / length for sign in (-1, 1)]
        low = int(np.clip(np.floor(ends[0]), 0, shape[axis] - 1))
        spans.append((low, int(np.clip(np.ceil(ends[1]), low + 1, shape[axis]))))
    return Box(spans[1][0], spans[0][0], spans[1][1], spans[0][1])
