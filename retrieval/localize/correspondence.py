"""Correspondence: which part of one image matches which part of another, by mutually nearest patches.

All chests resemble each other, so that most patches would match by their position in the body alone. The
match is made on what two patches share beyond it: from each patch the usual appearance at its position is
subtracted, that of the calibration's images where the encoder is calibrated
(`retrieval.localize.specificity.calibration`), else the mean patch of both images. A patch chooses the patch
with the largest inner product of what remains. Two patches that choose each other are a pair, and the inner
product is its strength: the direction alone of the little that remains of usual tissue is noise.

Where the encoder is calibrated, findings come first: how far the cosine of each patch with a finding exceeds
the median over the calibration's images of their highest cosine with it. Only where no finding stands out in
both images does the rest decide.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from corpus.geometry import Box
from corpus.statistics import unit_rows
from retrieval.localize.saliency.maps import scaled
from retrieval.localize.specificity.calibration import find_references
from retrieval.localize.specificity.map_statistics import Contrasts, References
from trainer.runtime.encoder import Encoder, Patches

Map = NDArray[np.float32]

PAIRS = 3
"""Pairs in an answer, at most."""
_APART = 2.0  # cells between the centres of two pairs, in each image
_SMOOTHING = 1 / 16  # deviation, as a share of the map's side, by which patches are averaged with neighbours
_REST = 0.02  # weight of the rest, at most, beside findings that stand out by a deviation in both
_FLOOR = 1e-3  # of a deviation of cosines
_SOFTENING = 0.7  # deviation, in cells, by which maps are softened
_REACH = 1.0  # cells from a patch's centre to the edge of its box


@dataclass(frozen=True, slots=True)
class Pair:
    """A part of the query and the corresponding part of the hit. `score`: see `Correspondence`."""

    query: Box
    hit: Box
    score: float

    def as_json(self) -> dict[str, Any]:
        """The contract's form."""
        return {"query": self.query.as_json(), "hit": self.hit.as_json(), "score": round(self.score, 6)}


@dataclass(frozen=True, slots=True, eq=False)
class Correspondence:
    """The correspondence of two images.

    `query`, `hit`: (height, width) float32 in [0, 1], the strength of each position's match in the other
    image.
    `pairs`: at most `PAIRS`, the strongest first, with score 1.
    `matches`: every patch of the query, row by row, with its nearest patch of the hit, mutual or not; the
    score is the cosine of what both have beyond the mean patch.
    """

    query: Map
    hit: Map
    pairs: tuple[Pair, ...]
    matches: tuple[Pair, ...]

    def as_json(self) -> dict[str, Any]:
        """The contract's form, without the maps and the matches of single patches."""
        return {"pairs": [pair.as_json() for pair in self.pairs]}


def find_correspondence(
    encoder: Encoder, query: Map, hit: Map, *, references: References | None = None
) -> Correspondence:
    """Match the patches of two images.

    Args:
        encoder: any with a map of features.
        query: (height, width) float32 grey in [0, 1].
        hit: the same, of any size.
        references: images with the usual appearance; None: those of the encoder's calibration, if any.

    Raises:
        EncoderError: an image cannot be encoded, or the encoder has no map of features.
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
    return Correspondence(maps[0], maps[1], pairs, tuple(_matches(cosines, patches, shapes)))


def _match(
    patches: Patches, references: References | None, findings: NDArray[np.float32] | None
) -> tuple[Map, Map, NDArray[np.bool_]]:
    """(cells, cells) cosines and strengths of every pair, and which are mutual.

    Padding matches nothing: its cosines are −inf.
    """
    own = patches.vectors if references is None else references.residuals(patches.vectors)
    smooth = _smoothed(own)
    inside = [patches.inside(side).ravel() for side in (0, 1)]
    flat = smooth.reshape(2, -1, smooth.shape[-1])
    if references is None:
        flat = flat - np.concatenate([flat[side][inside[side]] for side in (0, 1)]).mean(axis=0)
    one, other = flat
    units = [unit_rows(rest) for rest in (one, other)]
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
    """(2, cells, findings): how far a patch's cosine with a finding exceeds the images' median highest one.

    In standard deviations of the images' highest cosines, at least 0.
    """
    highest = _smoothed(references.patches @ findings.T).max(axis=(1, 2))
    cosines = _smoothed(patches.vectors @ findings.T).reshape(2, -1, len(findings))
    usual, spread = np.median(highest, axis=0), np.maximum(highest.std(axis=0), _FLOOR)
    excess: NDArray[np.float32] = np.maximum((cosines - usual) / spread, 0)
    return excess


def _smoothed(maps: Map) -> Map:
    """(n, gh, gw, …) maps, each cell a Gaussian mean of itself and its neighbours."""
    deviations = (0.0, *(_SMOOTHING * cells for cells in maps.shape[1:3]), 0.0)
    smoothed: Map = ndimage.gaussian_filter(maps, deviations, mode="nearest")
    return smoothed


def _grid_of(strength: Map, mutual: NDArray[np.bool_], patches: Patches, side: int) -> Map:
    """(gh, gw): the strength of each patch's own pair, softened."""
    own = np.where(mutual, strength, 0).max(axis=1 - side).reshape(patches.vectors.shape[1:3])
    softened: Map = ndimage.gaussian_filter(own, _SOFTENING, mode="nearest")
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
        positions = np.array([np.unravel_index(cell, grid) for cell in cells])
        if any((np.abs(positions - earlier).max(axis=1) < _APART).any() for earlier in taken):
            continue
        taken.append(positions)
        boxes = [_box(patches, side, positions[side], shapes[side]) for side in (0, 1)]
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
    """The pixels of an image around a cell's centre, clipped at the image's edges."""
    content = patches.content_boxes[side]
    grid = patches.vectors.shape[1:3]
    spans = []
    for axis, (start, length) in enumerate(((content.top, content.height), (content.left, content.width))):
        step = patches.image_size / grid[axis]
        middle = (cell[axis] + 0.5) * step
        ends = [(middle + sign * _REACH * step - start) * shape[axis] / length for sign in (-1, 1)]
        low = int(np.clip(np.floor(ends[0]), 0, shape[axis] - 1))
        spans.append((low, int(np.clip(np.ceil(ends[1]), low + 1, shape[axis]))))
    return Box(spans[1][0], spans[0][0], spans[1][1], spans[0][1])
