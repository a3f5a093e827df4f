"""Lesions as fields of added attenuation, independent of the body they are drawn into.

A lesion is placed by fractions of the lung it lies in and sized in millimetres, so the same one can be drawn
into a phantom or, given the masks of its lungs, into a real radiograph: add `Field.attenuation` to the
image's line integral and fade the lung's own markings by `Field.clears`. An enlarged heart is not such a
field: it is another body (`corpus.phantom.anatomy.project` with a larger `ctr`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from corpus.errors import CorpusError

Hemithorax = Literal["right", "left"]
LungZone = Literal["upper", "mid", "lower"]
Mask = NDArray[np.bool_]

EFFUSION, CONSOLIDATION, NODULE = "pleural_effusion", "consolidation", "nodule"
CARDIOMEGALY, PNEUMOTHORAX = "cardiomegaly", "pneumothorax"
FINDINGS = (PNEUMOTHORAX, EFFUSION, CONSOLIDATION, NODULE, CARDIOMEGALY)
"""The findings a phantom can have."""

SIZES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        EFFUSION: (25.0, 150.0),
        CONSOLIDATION: (20.0, 42.0),
        NODULE: (5.0, 15.0),
        PNEUMOTHORAX: (12.0, 60.0),
        CARDIOMEGALY: (0.505, 0.64),
    }
)
"""Range of `Lesion.size`: mm of fluid above the costophrenic angle at the chest wall; mm mean radius of
the patch; mm radius of the nodule (diameter 10–30 mm, the definition of a nodule); mm of air above the
lung's tip; heart width over inner thoracic width (a ratio)."""

CONTRASTS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        EFFUSION: (1.4, 2.2),
        CONSOLIDATION: (0.60, 1.20),
        NODULE: (0.45, 0.95),
        PNEUMOTHORAX: (0.40, 0.65),
        CARDIOMEGALY: (1.0, 1.0),
    }
)
"""Range of `Lesion.contrast`, the largest change of attenuation, in certain lesions."""

FAINT_CONTRASTS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        EFFUSION: (0.40, 0.65),
        CONSOLIDATION: (0.20, 0.32),
        NODULE: (0.18, 0.28),
        PNEUMOTHORAX: (0.18, 0.26),
        CARDIOMEGALY: (1.0, 1.0),
    }
)
"""The same in doubtful lesions. An enlarged heart is doubtful by its size: `FAINT_SIZES`."""

FAINT_SIZES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        EFFUSION: (25.0, 42.0),
        CONSOLIDATION: (20.0, 34.0),
        NODULE: (5.0, 9.0),
        PNEUMOTHORAX: (12.0, 19.0),
        CARDIOMEGALY: (0.505, 0.52),
    }
)
"""Range of `Lesion.size` in doubtful lesions: all are small."""

ZONES: Mapping[LungZone, tuple[float, float]] = MappingProxyType(
    {"upper": (0.16, 0.30), "mid": (0.40, 0.58), "lower": (0.68, 0.82)}
)
"""Range of a lesion's centre, as a fraction of the lung's height from its tip (each within its third)."""

_RIM_MM = 7.0  # width of the border over which a lung reaches most of its depth


@dataclass(frozen=True, slots=True)
class Lesion:
    """One abnormality: finding, position, size and density.

    `finding`: one of `FINDINGS`.
    `side`: the patient's side, None for the heart.
    `zone`: the third of the lung, None where the finding determines its own position.
    `size`: see `SIZES`. `contrast`: see `CONTRASTS`.
    `faint`: doubtful, too weak for a reader to be sure.
    `across`: 0 at the lung's inner, 1 at its outer border, in the row of `down`.
    `down`: 0 at the lung's tip, 1 at its lowest point.
    `seed`: of its texture.
    """

    finding: str
    side: Hemithorax | None
    zone: LungZone | None
    size: float
    contrast: float
    faint: bool
    across: float
    down: float
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Lung:
    """One lung on an image.

    `mask`: (H, W) bool.
    `side`: the patient's.
    `mm_per_pixel`: size of a pixel.
    """

    mask: Mask
    side: Hemithorax
    mm_per_pixel: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) in pixels, ends excluded.

        Raises:
            CorpusError: the mask is empty.
        """
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        if not rows.size:
            raise CorpusError(f"the {self.side} lung's mask is empty: no lesion can be drawn into it")
        return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1

    @property
    def fullness(self) -> NDArray[np.float32]:
        """Share of the lung's depth on each ray, (H, W): 1 inside, falling to 0.3 at its border.

        Estimated from the outline alone: a lesion replaces little lung where there is little.
        """
        outline = Image.fromarray(self.mask.astype(np.uint8) * np.uint8(255))
        spread = outline.filter(ImageFilter.BoxBlur(_RIM_MM / self.mm_per_pixel))
        inside = np.clip(np.asarray(spread, dtype=np.float32) * np.float32(2 / 255) - 1, 0, 1)
        full: NDArray[np.float32] = np.maximum(np.sqrt(inside), np.float32(0.3))
        return full

    def point(self, across: float, down: float) -> tuple[float, float]:
        """Return (x, y) in pixels of a position given as in `Lesion`: always between the lung's borders."""
        top, bottom, _, _ = self.box
        y = top + down * (bottom - 1 - top)
        columns = np.flatnonzero(self.mask[round(y)])
        if not columns.size:  # a mask in pieces: take its nearest row
            filled = np.flatnonzero(self.mask.any(axis=1))
            columns = np.flatnonzero(self.mask[filled[np.argmin(np.abs(filled - y))]])
        first, last = float(columns[0]), float(columns[-1])
        # The patient's right lung lies left on the image: its inner border is the larger x.
        x = last - across * (last - first) if self.side == "right" else first + across * (last - first)
        return x, y


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """The effect of a lesion on the image, (H, W) maps.

    `attenuation`: float32, added to the line integral.
    `clears`: float32 in [0, 1], the share of the lung's own markings that vanish.
    `mask`: where either is not zero.
    """

    attenuation: NDArray[np.float32]
    clears: NDArray[np.float32]
    mask: Mask


def draw(lesion: Lesion, lung: Lung) -> Field:
    """Draw a lesion into a lung.

    Raises:
        CorpusError: the finding is not drawn into a lung, the lung is of the other side, or it is empty.
    """
    painter = _PAINTERS.get(lesion.finding)
    if painter is None:
        raise CorpusError(f"{lesion.finding} is not drawn into a lung; known are {', '.join(_PAINTERS)}")
    if lesion.side != lung.side:
        raise CorpusError(f"a {lesion.side} {lesion.finding} cannot be drawn into the {lung.side} lung")
    return painter(lesion, lung)


def _grid(lung: Lung) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixel coordinates x (1, W) and y (H, 1)."""
    height, width = lung.mask.shape
    return np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]


def _texture(seed: int, cells: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth noise, mean 0 and deviation about 1, with `cells` random values along each side."""
    random = np.random.Generator(np.random.PCG64(seed))
    coarse = Image.fromarray(random.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _paint_effusion(lesion: Lesion, lung: Lung) -> Field:
    """Fluid that fills the costophrenic angle; its surface is a meniscus that climbs the chest wall."""
    x, y = _grid(lung)
    _, bottom, left, right = lung.box
    outwards = (x - left) / (right - left) if lung.side == "left" else (right - x) / (right - left)
    climb = 0.66 + 0.34 * np.clip(outwards, 0.0, 1.0) ** 3
    depth_mm = (y - bottom) * lung.mm_per_pixel + lesion.size * climb
    mask = lung.mask & (depth_mm > 0)
    # The layer is thin where it tapers up along the wall and thick below.
    thickness = 0.45 + 0.55 * np.clip(depth_mm / (0.30 * lesion.size), 0.0, 1.0)
    veiled = np.where(mask, thickness * lung.fullness, 0.0).astype(np.float32)
    return Field(np.float32(lesion.contrast) * veiled, 0.8 * veiled, mask)


def _paint_consolidation(lesion: Lesion, lung: Lung) -> Field:
    """A patch with a ragged border, mottled, crossed by air-filled bronchi that fan out from the hilum."""
    x, y = _grid(lung)
    centre_x, centre_y = lung.point(lesion.across, lesion.down)
    dx, dy = x - centre_x, y - centre_y
    radius = lesion.size / lung.mm_per_pixel
    shape = (lung.mask.shape[0], lung.mask.shape[1])
    ragged = 1.0 + 0.16 * np.clip(_texture(lesion.seed, 16, shape), -2.0, 2.0)
    inward = 1.0 - np.sqrt(dx * dx + dy * dy) / (radius * ragged)
    mask = lung.mask & (inward > 0)
    body = np.clip(inward / 0.30, 0.0, 1.0) * (
        0.86 + 0.14 * np.clip(_texture(lesion.seed + 1, 48, shape), -1, 1)
    )

    random = np.random.Generator(np.random.PCG64([lesion.seed, 2]))
    to_hilum = 1.0 if lung.side == "right" else -1.0
    bronchi = np.zeros_like(body)
    for angle in random.uniform(-0.25, 0.25) + np.array([-0.55, 0.0, 0.55]):
        # Lines that fan out from a point on the hilar side of the patch.
        cos, sin = math.cos(angle), math.sin(angle)
        outwards = 0.9 * radius - to_hilum * dx
        along, off = outwards * cos + dy * sin, dy * cos - outwards * sin
        wide = max(1.2 / lung.mm_per_pixel, 0.7)
        bronchi = np.maximum(
            bronchi, np.where(along > 0, np.maximum(1.0 - np.abs(off) / (2 * wide), 0.0), 0.0)
        )
    veiled = np.where(mask, body * (1.0 - 0.5 * bronchi) * lung.fullness, 0.0).astype(np.float32)
    return Field(np.float32(lesion.contrast) * veiled, 0.7 * veiled, mask)


def _paint_nodule(lesion: Lesion, lung: Lung) -> Field:
    """A ball: the length of a ray through it."""
    x, y = _grid(lung)
    centre_x, centre_y = lung.point(lesion.across, lesion.down)
    radius = lesion.size / lung.mm_per_pixel
    ball = 1.0 - (np.square(x - centre_x) + np.square(y - centre_y)) / (radius * radius)
    mask = lung.mask & (ball > 0)
    depth = np.where(mask, np.sqrt(np.maximum(ball, 0.0)), 0.0).astype(np.float32)
    return Field(np.float32(lesion.contrast) * depth, np.zeros_like(depth), mask)


def _paint_pneumothorax(lesion: Lesion, lung: Lung) -> Field:
    """Air between chest wall and a lung shrunk towards its hilum, most at the tip, none at the base.

    The pleura is a thin bright line along the shrunk lung's border; the mask is the air and that line.
    """
    height, width = lung.mask.shape
    x, y = _grid(lung)
    top, bottom, left, right = lung.box
    hilum_x = float(right if lung.side == "right" else left)
    hilum_y = top + 0.45 * (bottom - top)
    most = min(0.75, lesion.size / lung.mm_per_pixel / (hilum_y - top))
    fading = np.clip((bottom - (bottom - top) * 0.18 - y) / ((bottom - top) * 0.40), 0.0, 1.0)
    stretch = 1.0 / (1.0 - most * fading)  # (H, 1)
    source_y = np.where(y < hilum_y, hilum_y + (y - hilum_y) * stretch, y)
    source_x = hilum_x + (x - hilum_x) * stretch
    rows = np.rint(source_y).astype(np.intp)
    columns = np.rint(source_x).astype(np.intp)
    on_image = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    shrunk = lung.mask[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)] & on_image & lung.mask
    outer_half = (
        (x - left) / (right - left) > 0.3 if lung.side == "left" else (right - x) / (right - left) > 0.3
    )
    # Towards the middle there is air only over the tip, not along the great vessels.
    over_tip = y < top + 1.6 * lesion.size / lung.mm_per_pixel
    air = lung.mask & ~shrunk & (outer_half | over_tip)
    line = shrunk & _beside(air)
    attenuation = np.where(air, np.float32(-lesion.contrast) * lung.fullness, np.float32(0.0))
    attenuation[line] = np.float32(0.45 * lesion.contrast)
    return Field(attenuation, air.astype(np.float32), air | line)


def _beside(mask: Mask) -> Mask:
    """Pixels with a neighbour (of four) in the mask."""
    near = np.zeros_like(mask)
    near[1:] |= mask[:-1]
    near[:-1] |= mask[1:]
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    return near


_PAINTERS: Mapping[str, Callable[[Lesion, Lung], Field]] = MappingProxyType(
    {
        EFFUSION: _paint_effusion,
        CONSOLIDATION: _paint_consolidation,
        NODULE: _paint_nodule,
        PNEUMOTHORAX: _paint_pneumothorax,
    }
)
