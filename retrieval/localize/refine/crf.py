"""A dense conditional random field: aligns a map's mask with the edges of the image (arXiv 1210.5644).

Every pixel is connected to every other: to near ones, and to those that are near and similarly bright. The
sums over all pixels are exact; a map is far coarser than its image, so they run over a reduced image.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Planes = NDArray[np.float32]
_ONE = np.float32(1)

SIDE = 64
"""Pixels along the longer side that the field is solved on: 4,096² connections at most."""
FRAME = 224.0
"""Pixels of the longer side that the widths below refer to."""
_EPSILON = 1e-8
_TAU = 1.05
_NEAR, _NEAR_WEIGHT = 3.0, 3.0  # sxy and compatibility of the smoothness kernel
_FAR, _FAR_GREY, _FAR_WEIGHT = 60.0, 5.0, 5.0  # sxy, srgb (of 255) and compatibility of the appearance kernel
_CHANNELS = 3  # grey counts as three equal channels, as in the source of these widths


def refine_maps(image: Planes, maps: Planes, steps: int = 1) -> Planes:
    """Return mean-field probabilities of being inside, for several maps of one image at once.

    Args:
        image: (height, width) float32 grey in [0, 1].
        maps: (p, height, width) float32 in [0, 1].
        steps: of the mean field; one, as in MedCLIP-SAM.

    Returns:
        (p, height, width) float32 in [0, 1].
    """
    height, width = image.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = np.stack([resized(plane, size) for plane in maps])
    inside = mean_field(resized(image, size), small, steps, FRAME / max(height, width) / scale)
    return np.stack([resized(plane, (height, width)) for plane in inside]).clip(0, 1)


def mean_field(image: Planes, maps: Planes, steps: int, pixel: float) -> Planes:
    """The same at the image's own size; a pixel's side is `pixel` in the unit of the widths."""
    advantage = _costs(1 - maps) - _costs(maps)
    smoothness, appearance = _Smoothness(image, pixel), _Appearance(image, pixel)
    beliefs = _inside(advantage)
    for _ in range(steps):
        surplus = 2 * beliefs - 1  # Potts model: belief in being inside less that in being outside
        beliefs = _inside(
            advantage
            + np.float32(_NEAR_WEIGHT) * smoothness.messages(surplus)
            + np.float32(_FAR_WEIGHT) * appearance.messages(surplus)
        )
    return beliefs


def resized(plane: Planes, size: tuple[int, int]) -> Planes:
    """A (height, width) plane at another height and width: linear, averaging on the way down."""
    source = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(source.resize(size[::-1], Image.Resampling.BILINEAR), dtype=np.float32)


def _costs(share: Planes) -> Planes:
    """Of a label with that share of the map: −log(a + ε) / (τ · sigmoid(a))."""
    costs: Planes = -np.log(share + np.float32(_EPSILON)) * (_ONE + np.exp(-share)) / np.float32(_TAU)
    return costs


def _inside(advantage: Planes) -> Planes:
    """Probability of being inside, by how much less that costs than being outside."""
    probability: Planes = _ONE / (_ONE + np.exp(-advantage))
    return probability


class _Smoothness:
    """The kernel of position, normalised on both sides as in pydensecrf: a product of rows and columns."""

    def __init__(self, image: Planes, pixel: float) -> None:
        rows, columns = _sides(image, pixel / _NEAR)
        self._rows, self._columns = _normalised(rows), _normalised(columns)

    def messages(self, beliefs: Planes) -> Planes:
        """(p, height, width) sums over all pixels of (p, height, width) beliefs."""
        return np.asarray(self._rows @ beliefs @ self._columns, np.float32)


class _Appearance:
    """The kernel of position and grey, normalised on both sides."""

    def __init__(self, image: Planes, pixel: float) -> None:
        rows, columns = _sides(image, pixel / _FAR)
        grey = image.ravel() * np.float32(255 * _CHANNELS**0.5 / _FAR_GREY)
        # In place: the matrix of all pairs has 67 MB.
        kernel = np.subtract.outer(grey, grey)
        np.square(kernel, out=kernel)
        kernel *= np.float32(-0.5)
        np.exp(kernel, out=kernel)
        pairs = kernel.reshape(*image.shape, *image.shape)
        pairs *= rows[:, None, :, None]
        pairs *= columns[None, :, None, :]
        self._kernel, self._root = kernel, _ONE / np.sqrt(kernel.sum(axis=1))

    def messages(self, beliefs: Planes) -> Planes:
        """(p, height, width) sums over all pixels of (p, height, width) beliefs."""
        flat = beliefs.reshape(len(beliefs), -1)
        sums = self._root * ((flat * self._root) @ self._kernel)
        return np.asarray(sums, np.float32).reshape(beliefs.shape)


def _normalised(kernel: Planes) -> Planes:
    """(n, n) kernel, each entry by the root of the product of its row's and its column's sum."""
    root = np.sqrt(kernel.sum(axis=1))
    return np.asarray(kernel / np.outer(root, root), np.float32)


def _sides(image: Planes, pixel: float) -> tuple[Planes, Planes]:
    """Gaussians of the distances of rows and of columns: (height, height) and (width, width) float32."""
    rows, columns = (
        np.exp(-0.5 * np.square(np.subtract.outer(positions, positions))).astype(np.float32)
        for positions in (np.arange(side) * pixel for side in image.shape)
    )
    return rows, columns
