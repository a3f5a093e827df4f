"""Write counterfactual films to a folder: a manifest to train on, and their masks to measure with."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from corpus.annotations import TABLE as MASKS_TABLE
from corpus.counterfactual.draw import NormalFilm, drawn_scene
from corpus.errors import CorpusError
from corpus.phantom import describe

MANIFEST = "manifest.csv"

_MANIFEST_COLUMNS = ("study_id", "subject_id", "image", "report")
_MASK_COLUMNS = ("image", "mask", "structure", "subject_id")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: real films used, counterfactual films made of them, and masks of their lesions."""

    films: int
    studies: int
    masks: int


def write_counterfactuals(
    films: Iterable[tuple[str, NormalFilm]], out: Path, *, per_film: int = 1, seed: int = 0
) -> Written:
    """Draw the lesions of phantoms into real films, and write films, reports and masks.

    Of each film `per_film` studies are made; some of them stay normal, as among phantoms. Their reports say
    what was drawn. `manifest:OUT/manifest.csv` is a source to train on; `--masks OUT` is a truth to measure
    with, of the lesions that one can be sure of. A person keeps the id it has in its own source.

    Args:
        films: (subject, film) each.
        out: a folder, new or empty.
        per_film: at least 1.
        seed: of the lesions and words.

    Raises:
        CorpusError: the folder holds something, cannot be written, or there is no film.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CorpusError(f"{out.name!r} holds something already: name a new folder")
    studies: list[Sequence[str]] = []
    masks: list[Sequence[str]] = []
    used = 0
    try:
        for part in ("images", "masks"):
            (out / part).mkdir(parents=True, exist_ok=True)
        for subject, film in films:
            used += 1
            for _ in range(per_film):
                studies.append(_write_study(film, subject, out, len(studies), seed, masks))
        if not used:
            raise CorpusError("there is no normal film whose two lungs are clear: nothing was drawn")
        _write_table(out / MANIFEST, _MANIFEST_COLUMNS, studies)
        _write_table(out / MASKS_TABLE, _MASK_COLUMNS, masks)
    except OSError as error:
        raise CorpusError(f"the films cannot be written to {out.name!r}: {error.strerror}") from error
    return Written(used, len(studies), len(masks))


def _write_study(
    film: NormalFilm, subject: str, out: Path, number: int, seed: int, masks: list[Sequence[str]]
) -> Sequence[str]:
    """Write one study's film and masks; return its row of the manifest."""
    drawn = drawn_scene(seed, number)
    drawn = replace(drawn, lesions=film.as_seen(drawn.lesions))
    name = f"{number:05d}"
    _write_picture(out / "images" / f"{name}.png", film.with_lesions(drawn.lesions))
    sure = [lesion for lesion in drawn.lesions if not lesion.faint]
    for finding, mask in film.masks(sure).items():
        if mask.any():
            file = f"{name}__{finding}.png"
            _write_picture(out / "masks" / file, mask.astype(np.float32))
            masks.append((f"{name}.png", file, finding, subject))
    return f"counterfactual-{seed}-{number}", subject, f"images/{name}.png", describe(drawn).text


def _write_picture(path: Path, picture: NDArray[np.float32]) -> None:
    Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(path)


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)
