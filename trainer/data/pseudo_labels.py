"""Pseudo-labels: a folder of images and confidence-weighted masks that a model made.

`masks.csv` has a row per image and structure: `image`, `mask`, `structure`, and `confidence` in [0, 1] (1
without that column). Files lie beside the table, or in its `images/` and `masks/`. A row without a mask means
that the structure is not in the image. An image without a row for a structure has no label for it and teaches
nothing about it.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corpus.errors import TrainingError, UnreadableImage
from corpus.geometry import Framing
from corpus.images.reader import read_image
from corpus.progress import OnProgress, silent
from corpus.redaction import redacted
from trainer.runtime.segmenter import canonical

TABLE = "masks.csv"
_FEWEST = 4  # fewer images than these teach no structure


@redacted
@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: paths as written, `mask` empty where the structure is absent."""

    image: str
    mask: str
    structure: str
    confidence: float


@dataclass(frozen=True, slots=True, eq=False)
class PseudoLabels:
    """The letterboxed images and masks of a folder: n images, s structures.

    `structures`: their names, sorted.
    `names`: of the images, as in the table.
    `images`: (n, size, size) uint8.
    `masks`: (n, s, size, size) uint8, 255 inside.
    `weights`: (n, s) float32 in [0, 1], the confidences; 0 without a label.
    `skipped`: unusable files with the reason.
    """

    structures: tuple[str, ...]
    names: tuple[str, ...]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    weights: NDArray[np.float32]
    skipped: tuple[tuple[str, str], ...]


def read_rows(folder: Path) -> list[Row]:
    """Read the table.

    Raises:
        TrainingError: it is missing or lacks a column, or a confidence is no number in [0, 1].
    """
    path = folder / TABLE
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = {"image", "mask", "structure"} - set(table.fieldnames or ())
            if missing:
                raise TrainingError(f"{path} has no column {', '.join(sorted(missing))}")
            rows = [_row(line, path, number) for number, line in enumerate(table, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(
            f"{folder} holds no readable {TABLE}: `similarity localize` over a corpus writes one"
        ) from error
    if not rows:
        raise TrainingError(f"{path} has no rows: there is nothing to learn from")
    return rows


def read_pseudo_labels(folder: Path, size: int, on_progress: OnProgress = silent) -> PseudoLabels:
    """Read and letterbox a folder. Unusable rows are skipped and counted.

    Args:
        folder: holds `masks.csv`.
        size: side of the square in pixels.
        on_progress: called with the stage `read`, the images read and the images in all.

    Raises:
        TrainingError: no table, too few images left, or no mask at all.
    """
    rows = read_rows(folder)
    structures = tuple(sorted({canonical(row.structure) for row in rows}))
    by_image: dict[str, list[Row]] = {}
    for row in rows:
        by_image.setdefault(row.image, []).append(row)
    framing = Framing(size)
    names: list[str] = []
    images, masks, weights, skipped = [], [], [], []
    for number, (name, some) in enumerate(by_image.items(), 1):
        try:
            image = read_image(_locate(folder, "images", name))
        except UnreadableImage as error:
            skipped.append((name, str(error)))
            continue
        drawn, sure, refused = _masks_of(folder, some, structures, image.shape, framing)
        skipped += refused
        if sure.any():
            names.append(name)
            images.append(np.rint(framing.apply(image) * 255).astype(np.uint8))
            masks.append(drawn)
            weights.append(sure)
        on_progress("read", number, len(by_image))
    _require_enough(folder, names, masks, skipped)
    return PseudoLabels(
        structures, tuple(names), np.stack(images), np.stack(masks), np.stack(weights), tuple(skipped)
    )


def _require_enough(
    folder: Path, names: Sequence[str], masks: Sequence[NDArray[np.uint8]], skipped: Sequence[tuple[str, str]]
) -> None:
    why = f"; {len(skipped)} were left out, the first: {skipped[0][1]}" if skipped else ""
    if len(names) < _FEWEST:
        raise TrainingError(
            f"{folder} has {len(names)} images with usable masks, fewer than {_FEWEST}: "
            f"too few to learn from{why}"
        )
    if not any(mask.any() for mask in masks):
        raise TrainingError(f"all masks of {folder} are empty: there is nothing to learn{why}")


def _masks_of(
    folder: Path, rows: Sequence[Row], structures: Sequence[str], shape: tuple[int, ...], framing: Framing
) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[tuple[str, str]]]:
    """One image's masks, weights and refused rows. Of two rows of a structure the more confident counts."""
    drawn = np.zeros((len(structures), framing.size, framing.size), np.uint8)
    sure = np.zeros(len(structures), np.float32)
    refused = []
    for row in sorted(rows, key=lambda row: row.confidence):
        channel = structures.index(canonical(row.structure))
        if not row.mask:
            drawn[channel], sure[channel] = 0, row.confidence
            continue
        try:
            mask = _read_mask(_locate(folder, "masks", row.mask))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            refused.append((row.mask, f"the mask {row.mask} cannot be read: {error}"))
            continue
        if mask.shape != shape:
            sizes = "{} x {}, its image {} x {}".format(*mask.shape, *shape)
            refused.append((row.mask, f"the mask {row.mask} has {sizes} pixels"))
            continue
        drawn[channel] = np.rint(framing.apply(mask) * 255).astype(np.uint8)
        sure[channel] = row.confidence
    return drawn, sure, refused


def _read_mask(path: str) -> NDArray[np.float32]:
    with Image.open(path) as image:
        values = np.asarray(image.convert("L"))
    inside: NDArray[np.bool_] = values > values.max() / 2  # written as 0 and 1, or as 0 and 255
    return inside.astype(np.float32)


def _locate(folder: Path, kind: str, name: str) -> str:
    """The location of a file of the table: an address or absolute path, else beside it or in a subfolder."""
    if name.startswith("phantom://") or Path(name).is_absolute():
        return name
    beside = folder / name
    return str(beside if beside.is_file() else folder / kind / name)


def _row(line: dict[str, str], path: Path, number: int) -> Row:
    written = (line.get("confidence") or "1").strip()
    try:
        confidence = float(written)
    except ValueError:
        confidence = math.nan
    if not 0 <= confidence <= 1:
        raise TrainingError(f"{path}, line {number}: confidence {written[:40]!r} is no number from 0 to 1")
    values = [(line.get(column) or "").strip() for column in ("image", "mask", "structure")]
    if not values[0] or not values[2]:
        raise TrainingError(f"{path}, line {number}: image or structure is empty")
    return Row(values[0], values[1], values[2], confidence)
