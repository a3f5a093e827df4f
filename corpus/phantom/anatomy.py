"""The body of a phantom: its anatomy, and the attenuation of each ray that passes through it.

Lengths are millimetres on the image, which is `IMAGE_MM` wide and high. Body coordinates: u runs across from
the midline (negative: the patient's right, which an image shows on its left), v runs down from the image's
top. Attenuation is the line integral of the Beer–Lambert law (dimensionless): transmitted =
exp(-attenuation).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from corpus.phantom.frame import IMAGE_MM, Map, Positioning, body_coordinates, to_pixels
from corpus.phantom.lesions import Lung

Mask = NDArray[np.bool_]

SOFT_PER_MM = 0.019
"""Attenuation of soft tissue and water at about 70 keV, per mm."""
LUNG_PER_MM = 0.005
"""Attenuation of inflated lung, per mm."""
NORMAL_CTR = (0.38, 0.47)
"""Heart width over inner thoracic width in a heart of normal size."""

_APEX_CENTRE = 46.0  # distance of a lung's tip from the midline, mm
_APEX_RISE = 165.0  # height over which a lung reaches its full width, mm


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What differs between subjects and stays the same between two images of one. Lengths in mm.

    `thorax_half_width`: 118–146.
    `chest_depth`: 185–245, front to back.
    `apex`: 34–54, the lung tips below the image's upper edge.
    `dome_right`: 268–296; `dome_left`: 3–18 lower.
    `rib_spacing`: 21–26; `rib_bow`: 0.8–1.2, 1 is average.
    `clavicle_height`: 62–84; `clavicle_slope`: 0.05–0.28.
    `spine_bend`: ±5.
    `knob`: 11–19, radius of the aortic knob.
    `breast`: 0 or 0.15–0.4, attenuation.
    `stomach_bubble`: 0 or 0.5–1.1, attenuation missing.
    `ctr`: heart width over inner thoracic width, see `NORMAL_CTR`.
    `markings_seed`: seed of the vessel trees.
    """

    thorax_half_width: float
    chest_depth: float
    apex: float
    dome_right: float
    dome_left: float
    rib_spacing: float
    rib_bow: float
    clavicle_height: float
    clavicle_slope: float
    spine_bend: float
    knob: float
    breast: float
    stomach_bubble: float
    ctr: float
    markings_seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """The projected body: (size, size) maps.

    `attenuation`: float32, everything but the lungs' fine markings.
    `markings`: float32, the fine markings.
    `right`, `left`: the visible lung fields without the heart.
    `heart`: the heart's silhouette.
    """

    attenuation: Map
    markings: Map
    right: Lung
    left: Lung
    heart: Mask


def draw_anatomy(random: np.random.Generator, sex: Literal["F", "M"], age: float) -> Anatomy:
    """Draw one subject within the ranges of `Anatomy`. `age` in years."""
    woman = sex == "F"
    dome_right = random.uniform(268, 296)
    return Anatomy(
        thorax_half_width=random.uniform(118, 136) if woman else random.uniform(126, 146),
        chest_depth=random.uniform(185, 225) if woman else random.uniform(200, 245),
        apex=random.uniform(34, 54),
        dome_right=dome_right,
        dome_left=dome_right + random.uniform(3, 18),
        rib_spacing=random.uniform(21, 26),
        rib_bow=random.uniform(0.8, 1.2),
        clavicle_height=random.uniform(62, 84),
        clavicle_slope=random.uniform(0.05, 0.28),
        spine_bend=random.uniform(-5, 5),
        knob=random.uniform(11, 15) + 4 * min(1.0, max(0.0, (age - 40) / 40)),
        breast=random.uniform(0.15, 0.4) if woman else 0.0,
        stomach_bubble=random.uniform(0.5, 1.1) if random.random() < 0.6 else 0.0,
        ctr=random.uniform(*NORMAL_CTR),
        markings_seed=int(random.integers(2**32)),
    )


def project(anatomy: Anatomy, positioning: Positioning, ctr: float, size: int) -> Body:
    """Project the body onto an image of `size` × `size` pixels.

    Args:
        ctr: heart width over inner thoracic width on this image (the anatomy's own, or an enlarged one).
    """
    u, v = body_coordinates(positioning, size)
    a = np.abs(u)
    right_side = u < 0
    outer, inner = _lung_borders(anatomy, v)
    dome = np.where(right_side, np.float32(anatomy.dome_right), np.float32(anatomy.dome_left))
    diaphragm = _diaphragm(anatomy, a, dome)
    heart_depth = _heart(anatomy, ctr, u, v)
    heart = heart_depth > 0

    to_wall, to_middle, to_diaphragm = outer - a, a - inner, diaphragm - v
    inside = (to_wall > 0) & (to_middle > 0) & (to_diaphragm > 0) & (v > anatomy.apex)
    fullness = (
        _bulge(to_wall / 42.0) * _bulge(to_middle / 14.0) * _bulge(to_diaphragm / 9.0)
        * _bulge((v - anatomy.apex) / 60.0)
    )  # fmt: skip
    knob = 1.0 - np.square((u - 25.0) / anatomy.knob) - np.square((v - 112.0) / (anatomy.knob * 1.15))
    hidden = np.maximum(0.88 * np.minimum(1.0, 1.7 * np.sqrt(heart_depth)), 0.85 * _bulge(3.0 * knob))
    lung_mm = 0.66 * anatomy.chest_depth * fullness * (1.0 - hidden)

    soft_mm = _chest_wall(anatomy, a, v)
    soft_mm *= 1.0 + 0.10 * _smooth((v - diaphragm) / 30.0)
    attenuation = SOFT_PER_MM * soft_mm - (SOFT_PER_MM - LUNG_PER_MM) * np.minimum(lung_mm, 0.85 * soft_mm)
    attenuation += _ribs(anatomy, a, v, outer)
    # Clavicles and windpipe lie in the upper half, the spine in the middle third: the rest is not computed.
    upper, middle = np.s_[: size * 55 // 100], np.s_[:, size // 3 : size - size // 3]
    attenuation[upper] += _clavicles(anatomy, positioning, u[upper], v[upper])
    attenuation[upper] -= _windpipe(positioning, u[upper], v[upper])
    attenuation[middle] += _spine(anatomy, u[middle], v[middle])
    if anatomy.breast:
        attenuation += anatomy.breast * _breasts(anatomy, a, v)
    if anatomy.stomach_bubble:
        attenuation -= anatomy.stomach_bubble * _bubble(anatomy, u, v)

    markings = draw_markings(anatomy.markings_seed, positioning, u, v) * np.sqrt(fullness) * (1.0 - hidden)
    fields = inside & ~heart & (knob <= 0)
    mm = IMAGE_MM / size
    return Body(
        attenuation=np.maximum(attenuation, 0.0, dtype=np.float32),
        markings=markings.astype(np.float32, copy=False),
        right=Lung(fields & right_side, "right", mm),
        left=Lung(fields & ~right_side, "left", mm),
        heart=heart,
    )


def _bulge(x: Map) -> Map:
    """Quarter circle: 0 below 0, 1 above 1, vertical at 0. How the depth of a round body grows inwards."""
    rest = 1.0 - np.clip(x, 0.0, 1.0)
    return np.sqrt(1.0 - rest * rest)


def _smooth(x: Map) -> Map:
    """Smooth step from 0 to 1 between 0 and 1."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _tube(distance: Map, radius: float) -> Map:
    """Bone on a ray's way through a hollow tube, mm, by the ray's distance from its axis."""
    squared = distance * distance
    shell = np.sqrt(np.maximum(radius * radius - squared, 0.0))
    marrow = np.sqrt(np.maximum((0.72 * radius) ** 2 - squared, 0.0))
    drawn: Map = 2.0 * shell - 1.3 * marrow
    return drawn


def _lung_borders(anatomy: Anatomy, v: Map) -> tuple[Map, Map]:
    """Distance of the lungs' outer and inner border from the midline at each height."""
    below_apex = v - anatomy.apex
    widening = _bulge(below_apex / _APEX_RISE)
    low = np.maximum(below_apex - _APEX_RISE, 0.0) / 100.0
    outer = _APEX_CENTRE + (anatomy.thorax_half_width - _APEX_CENTRE) * widening - 3.0 * low * low
    hilum = np.square((v - 150.0) / 34.0)
    inner = _APEX_CENTRE - 19.0 * _bulge(below_apex / 60.0) + 7.0 / (1.0 + hilum * hilum)
    return outer, inner


def _diaphragm(anatomy: Anatomy, a: Map, dome: Map) -> Map:
    """Height v of the diaphragm: domes that fall to the costophrenic angle and a little to the middle."""
    crest = 0.52 * anatomy.thorax_half_width
    outwards = np.maximum(a - crest, 0.0) / (anatomy.thorax_half_width - crest)
    inwards = np.maximum(crest - a, 0.0) / crest
    drawn: Map = dome + 44.0 * outwards * outwards * (0.45 + 0.55 * outwards) + 12.0 * inwards * inwards
    return drawn


def _heart(anatomy: Anatomy, ctr: float, u: Map, v: Map) -> Map:
    """Depth of the heart, 0 outside its silhouette to 1 at its centre.

    A slanted ellipse of the exact width `ctr` × inner thoracic width; two thirds lie left of the midline.
    """
    width = ctr * 2.0 * anatomy.thorax_half_width
    half_height = 0.30 * width + 15.0
    slant = 0.42
    half_chord = math.sqrt((width / 2.0) ** 2 - (slant * half_height) ** 2)
    down = v - (anatomy.dome_left + 9.0 - half_height)
    across = u - 0.15 * width - slant * down
    drawn: Map = np.maximum(1.0 - np.square(down / half_height) - np.square(across / half_chord), 0.0)
    return drawn


def _chest_wall(anatomy: Anatomy, a: Map, v: Map) -> Map:
    """Thickness of the whole torso as if it were soft tissue, mm."""
    half_width = anatomy.thorax_half_width + 27.0 + 90.0 * _smooth((125.0 - v) / 70.0)
    across = np.minimum(a / half_width, 1.0)
    across *= across
    torso = anatomy.chest_depth * np.sqrt(1.0 - across * across)
    shoulder = 14.0 + 0.40 * np.maximum(a - 52.0, 0.0)
    return torso * _bulge((v - shoulder) / 75.0) * (0.72 + 0.28 * _smooth(v / 110.0))


def _ribs(anatomy: Anatomy, a: Map, v: Map, outer: Map) -> Map:
    """All ribs at once: a tube around the nearest of evenly spaced curves, behind and in front."""
    out = a / anatomy.thorax_half_width
    out2 = out * out
    bow = anatomy.rib_bow
    height = v - anatomy.apex
    fall = bow * (out2 * (18.0 + 0.10 * height) + 26.0 * out2 * out2 * out2 - 14.0 * out)
    near = _to_nearest((height - fall) / anatomy.rib_spacing) * (0.93 * anatomy.rib_spacing)
    in_cage = _smooth((outer + 9.0 - a) / 6.0) * _smooth((height + 4.0) / 6.0)
    behind = _tube(near, 5.0) * in_cage * _smooth((a - 16.0) / 8.0)

    front_spacing = 1.18 * anatomy.rib_spacing
    sink = bow * (78.0 * np.square(1.0 - np.minimum(out, 1.0)) - 10.0 * out2)
    near = _to_nearest((height - 22.0 - sink) / front_spacing) * (0.86 * front_spacing)
    front = _tube(near, 6.4) * in_cage * _smooth((a - 52.0) / 26.0) * _smooth((height - 18.0) / 14.0)
    return 0.046 * behind + 0.027 * front


def _to_nearest(phase: Map) -> Map:
    """Signed distance to the nearest whole number."""
    return phase - np.rint(phase)


def _clavicles(anatomy: Anatomy, positioning: Positioning, u: Map, v: Map) -> Map:
    a = np.abs(u - np.float32(positioning.turn))
    along = (a - 12.0) / 135.0
    axis = anatomy.clavicle_height - 135.0 * anatomy.clavicle_slope * along - 7.0 * np.sin(5.2 * along)
    ends = _smooth(along * 16.0) * _smooth((1.12 - along) * 12.0)
    return 0.062 * _tube(v - axis, 6.2) * ends


def _spine(anatomy: Anatomy, u: Map, v: Map) -> Map:
    across = (u - anatomy.spine_bend * np.sin(v / 60.0)) / 19.0
    body = np.sqrt(np.maximum(1.0 - across * across, 0.0))
    vertebra = _smooth(np.abs(_to_nearest(v / np.float32(25.0))) * np.float32(5.0))
    drawn: Map = body * (0.30 + 0.16 * vertebra)
    return drawn


def _windpipe(positioning: Positioning, u: Map, v: Map) -> Map:
    """Attenuation that the air of trachea and main bronchi takes away."""
    centre = np.float32(positioning.turn) * 0.6
    fork = np.maximum(v - 118.0, 0.0)
    off_axis = np.abs(u - centre)
    distance = np.where(v < 118.0, off_axis, off_axis - 0.8 * fork)
    air = np.sqrt(np.maximum(72.0 - distance * distance, 0.0))
    drawn: Map = 0.036 * air * _smooth((168.0 - v) / 45.0)
    return drawn


def _breasts(anatomy: Anatomy, a: Map, v: Map) -> Map:
    across = (a - 0.58 * anatomy.thorax_half_width) / 64.0
    down = (v - 246.0) / np.where(v > 246.0, np.float32(46.0), np.float32(90.0))
    return np.sqrt(np.maximum(1.0 - across * across - down * down, 0.0))


def _bubble(anatomy: Anatomy, u: Map, v: Map) -> Map:
    across = (u - 66.0) / 27.0
    down = (v - anatomy.dome_left - 25.0) / 14.0
    return np.sqrt(np.maximum(1.0 - across * across - down * down, 0.0))


_LEVELS = 3  # stems, their branches, and the branches of those
_POINTS = 5  # points along one vessel
_STEM_RADIUS = 2.7  # mm
_HILUM = (34.0, 148.0)  # distance from the midline and height v, mm


def draw_markings(seed: int, positioning: Positioning, u: Map, v: Map) -> Map:
    """Return the attenuation of the lungs' markings, before the lungs' outline is applied.

    The markings are the hila, vessels that branch outwards from them, and a fine mottle.

    Args:
        seed: seed of the vessel tree.
        positioning: of the body in the image.
        u, v: (size, size) body coordinates, mm.
    """
    size = u.shape[0]
    random = np.random.Generator(np.random.PCG64(seed))
    canvas = Image.new("L", (size, size))
    pen = ImageDraw.Draw(canvas)
    grown = _grow(random)
    for level in reversed(range(_LEVELS)):  # thick vessels are drawn over thin ones
        points = to_pixels(*grown[level], positioning, size)
        width = max(1, round(2.0 * _STEM_RADIUS * 0.62**level * size / IMAGE_MM))
        for line in points.reshape(len(points), -1).tolist():
            pen.line(line, fill=205 - 55 * level, width=width)
    vessels = np.asarray(canvas.filter(ImageFilter.GaussianBlur(1.1 * size / 256)), dtype=np.float32)
    mottle = Image.fromarray(random.standard_normal((96, 96), dtype=np.float32))
    grain = np.asarray(mottle.resize((size, size), Image.Resampling.BICUBIC))
    hila = np.square((np.abs(u) - 36.0) / 15.0) + np.square((v - _HILUM[1]) / 30.0)
    drawn: Map = vessels * np.float32(0.55 / 255.0) + 0.035 * grain + 0.42 / (1.0 + hila * hila)
    return drawn


def _grow(random: np.random.Generator) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the vessel trees of both lungs: for each level, u and v (vessels, points) in mm."""
    angle = (np.linspace(-1.25, 1.35, 8) + random.uniform(-0.14, 0.14, (2, 8))).ravel()
    sign = np.repeat([-1.0, 1.0], 8)
    start_u, start_v = sign * _HILUM[0], _HILUM[1] + 14.0 * angle
    grown = []
    for level in range(_LEVELS):
        count = len(angle)
        bends = angle[:, None] + np.cumsum(random.uniform(-0.16, 0.16, (count, _POINTS - 1)), axis=1)
        steps = random.uniform(0.75, 1.2, bends.shape) * (15.0 - 2.0 * level)
        first = np.zeros((count, 1))
        u = start_u[:, None] + sign[:, None] * np.hstack([first, np.cumsum(steps * np.cos(bends), axis=1)])
        v = start_v[:, None] + np.hstack([first, np.cumsum(steps * np.sin(bends), axis=1)])
        grown.append((u, v))
        # Each vessel forks at its middle and at its end, to either side.
        fork = np.repeat([[2, _POINTS - 1]], count, axis=0)
        turn = random.uniform(0.2, 0.75, (count, 2)) * np.where(random.random((count, 2)) < 0.5, 1.0, -1.0)
        angle = (np.take_along_axis(bends, fork - 1, axis=1) + turn).ravel()
        start_u, start_v = np.take_along_axis(u, fork, 1).ravel(), np.take_along_axis(v, fork, 1).ravel()
        sign = np.repeat(sign, 2)
    return grown
