"""The rendering of a scene: project the body, add the lesions, expose, develop."""

import numpy as np
from numpy.typing import NDArray

from corpus.phantom.anatomy import Body, project
from corpus.phantom.lesions import CARDIOMEGALY, Field, Lesion, draw
from corpus.phantom.scene import Scene

SIZE = 256
"""Pixels along each side of a phantom image by default (1.48 mm each)."""


def render(scene: Scene, size: int = SIZE) -> NDArray[np.float32]:
    """Draw the image of a scene.

    Returns:
        (size, size) float32 in [0, 1], white is dense; the patient's right is on the image's left.
    """
    body = _body(scene, size)
    attenuation = body.attenuation
    remaining = np.ones_like(attenuation)
    added = np.zeros_like(attenuation)
    for field in _fields(scene, body).values():
        added += field.attenuation
        remaining *= 1.0 - field.clears
    attenuation = np.maximum(attenuation + remaining * body.markings + added, 0.0)
    return _develop(scene, _expose(scene, attenuation))


def masks(scene: Scene, size: int = SIZE) -> dict[str, NDArray[np.bool_]]:
    """Return the mask of each finding of a scene: finding → (size, size) bool.

    Exactly where a lesion changes the attenuation (both sides of a bilateral one); for cardiomegaly the
    heart's silhouette. Doubtful lesions have masks too.
    """
    body = _body(scene, size)
    found: dict[str, NDArray[np.bool_]] = {}
    for lesion, field in _fields(scene, body).items():
        before = found.get(lesion.finding)
        found[lesion.finding] = field.mask if before is None else before | field.mask
    if any(lesion.finding == CARDIOMEGALY for lesion in scene.lesions):
        found[CARDIOMEGALY] = body.heart
    return found


def organs(scene: Scene, size: int = SIZE) -> dict[str, NDArray[np.bool_]]:
    """Return masks (size, size) of `right_lung`, `left_lung` (without the heart) and `heart`."""
    body = _body(scene, size)
    return {"right_lung": body.right.mask, "left_lung": body.left.mask, "heart": body.heart}


def _body(scene: Scene, size: int) -> Body:
    return project(scene.anatomy, scene.acquisition.positioning, scene.ctr, size)


def _fields(scene: Scene, body: Body) -> dict[Lesion, Field]:
    lungs = {"right": body.right, "left": body.left}
    return {lesion: draw(lesion, lungs[lesion.side]) for lesion in scene.lesions if lesion.side is not None}


def _expose(scene: Scene, attenuation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Transmitted intensity (1 is the open beam) after Beer–Lambert, unsharpness and quantum noise."""
    intensity = _soften(np.exp(-attenuation))
    random = np.random.Generator(np.random.PCG64(scene.acquisition.noise_seed))
    grain = _soften(random.standard_normal(attenuation.shape, dtype=np.float32))
    # Poisson noise in its normal limit: the deviation is the root of the mean.
    noisy = intensity + grain * np.sqrt(intensity / np.float32(scene.acquisition.photons))
    exposed: NDArray[np.float32] = np.maximum(noisy, np.float32(1e-4))
    return exposed


def _soften(intensity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blur with the kernel (1, 2, 1) / 4 along both axes; the border repeats."""
    edge = np.pad(intensity, 1, mode="edge")
    down = edge[:-2] + edge[2:]
    down += 2 * edge[1:-1]
    softened: NDArray[np.float32] = down[:, :-2] + down[:, 2:]
    softened += 2 * down[:, 1:-1]
    softened *= np.float32(1 / 16)
    return softened


def _develop(scene: Scene, intensity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log, window, and the image's gradation: dense is white."""
    acquisition = scene.acquisition
    window = (-np.log(intensity) - np.float32(acquisition.window_low)) / np.float32(acquisition.window_width)
    # A soft shoulder instead of a hard clip keeps detail behind the heart and below the diaphragm.
    toned = np.clip(window, 0.0, 1.25)
    toned = toned * (np.float32(1.0) - np.float32(0.32) * toned) / np.float32(0.75)
    developed: NDArray[np.float32] = np.clip(toned, 0.0, 1.0) ** np.float32(acquisition.gamma)
    return developed
