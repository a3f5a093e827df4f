"""Small cohorts on the disk, written as manifests, with images that differ from each other."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

PHRASES = (
    "The heart is normal in size.",
    "There is a small left pleural effusion.",
    "No pneumothorax.",
    "Right lower lobe consolidation.",
    "The lungs are clear.",
    "Cannot exclude early pneumonia.",
)
COLUMNS = (
    "study_id",
    "subject_id",
    "image",
    "report",
    "view",
    "date",
    "age",
    "sex",
    "present",
    "scanner",
    "kvp",
)


def draw(path: Path, seed: int, side: int = 40) -> None:
    """Write a grey image that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + seed % 5), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def case(number: int, folder: Path, *, image: bool = True, report: bool = True) -> dict[str, str]:
    """Return one row of a manifest and write its image to the folder."""
    row = {
        "study_id": f"s{number}",
        "subject_id": f"p{number // 2}",
        "view": ("pa", "ap", "lateral")[number % 3],
        "date": f"2020-{1 + number % 12:02d}-03",
        "age": str(30 + number),
        "sex": "FM"[number // 2 % 2],
        "present": ("edema", "", "nodule|fracture")[number % 3],
        "scanner": "AB"[number % 2],
        "kvp": str(80 + number % 3),
    }
    if image:
        draw(folder / f"film{number}.png", number)
        row["image"] = f"film{number}.png"
    if report:
        row["report"] = " ".join(PHRASES[(number + shift) % len(PHRASES)] for shift in range(3))
    return row


def write_manifest(folder: Path, rows: Iterable[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> str:
    """Write the table; return the source's name on the command line."""
    table = folder / "cases.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return f"manifest:{table}"


def cohort(folder: Path, count: int) -> str:
    """`count` studies; every fifth has no image, every seventh no report."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_manifest(
        folder, [case(n, folder, image=n % 5 != 4, report=n % 7 != 6) for n in range(count)]
    )
