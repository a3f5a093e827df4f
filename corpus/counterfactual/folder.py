"""A folder of counterfactual radiographs: a manifest for training, and masks for evaluation."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corpus.annotations import TABLE as MASKS_TABLE
from corpus.counterfactual.draw import NormalRadiograph, drawable_scene
from corpus.errors import CorpusError
from corpus.phantom import describe

MANIFEST = "manifest.csv"

_MANIFEST_COLUMNS = ("study_id", "subject_id", "image", "report")
_MASK_COLUMNS = ("image", "mask", "structure", "subject_id")


@dataclass(frozen=True, slots=True)
class Written:
    """Counts of a written folder.

    `radiographs`: real radiographs used.
    `studies`: counterfactual radiographs made of them.
    `masks`: masks of their lesions.
    """

    radiographs: int
    studies: int
    masks: int


def write_counterfactuals(
    radiographs: Iterable[tuple[str, NormalRadiograph]], out: Path, *, per_film: int = 1, seed: int = 0
) -> Written:
    """Draw the lesions of phantoms into real radiographs, and write images, reports and masks.

    `per_film` studies are made of each radiograph; some of them stay normal, as among phantoms. Their reports
    describe what was drawn. `manifest:OUT/manifest.csv` is a source for training; `--masks OUT` is the ground
    truth of the certain lesions. A subject keeps its id.

    Args:
        radiographs: (subject, radiograph) each.
        out: a folder, new or empty.
        per_film: studies of each radiograph, at least 1.
        seed: of the lesions and words.

    Raises:
        CorpusError: the folder is not empty or cannot be written, or there is no radiograph.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CorpusError(f"{out.name!r} is not empty: name a new folder")
    studies: list[Sequence[str]] = []
    masks: list[Sequence[str]] = []
    used = 0
    try:
        for part in ("images", "masks"):
            (out / part).mkdir(parents=True, exist_ok=True)
        for subject, radiograph in radiographs:
            used += 1
            for _ in range(per_film):
                studies.append(_write_study(radiograph, subject, out, len(studies), seed, masks))
        if not used:
            raise CorpusError("there is no normal radiograph with two clear lungs: nothing was drawn")
        _write_table(out / MANIFEST, _MANIFEST_COLUMNS, studies)
        _write_table(out / MASKS_TABLE, _MASK_COLUMNS, masks)
    except OSError as error:
        raise CorpusError(f"the radiographs cannot be written to {out.name!r}: {error.strerror}") from error
    return Written(used, len(studies), len(masks))


def _write_study(
    radiograph: NormalRadiograph, subject: str, out: Path, number: int, seed: int, masks: list[Sequence[str]]
) -> Sequence[str]:
    """Write one study's radiograph and masks; return its row of the manifest."""
    drawn = drawable_scene(seed, number)
    drawn = replace(drawn, lesions=radiograph.as_seen(drawn.lesions))
    name = f"{number:05d}"
    _write_image(out / "images" / f"{name}.png", radiograph.with_lesions(drawn.lesions))
    sure = [lesion for lesion in drawn.lesions if not lesion.faint]
    for finding, mask in radiograph.masks(sure).items():
        if mask.any():
            file = f"{name}__{finding}.png"
            _write_image(out / "masks" / file, mask.astype(np.float32))
            masks.append((f"{name}.png", file, finding, subject))
    return f"counterfactual-{seed}-{number}", subject, f"images/{name}.png", describe(drawn).text


def _write_image(path: Path, image: NDArray[np.float32]) -> None:
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(path)


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)
