"""The segmenter beside its teacher and the mean mask: Dice on images that it was not trained on.

    python -m benchmarks.segmenter --data ../shared/data

The teacher is a localizer, applied only to findings that an image is known to show, as its report would
state. Its masks are the segmenter's only training data (pseudo-labels), weighted by the confidence of its
calibration. Ground-truth masks score, and make the mean mask: the mean of the training images' masks, at
the level that is best on them; the segmenter never gets them. The teachers' encoders are those that
`benchmarks.localization` trains; without them only phantoms are measured, with `--encoder`.
"""

import argparse
import csv
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from corpus.annotations import open_annotations
from corpus.findings import VOCABULARY, Status
from corpus.geometry import Framing
from corpus.images.reader import read_image
from corpus.phantom import masks as drawn_masks
from corpus.phantom import scene
from corpus.sources import open_source
from corpus.splits import split_of
from corpus.statistics import BOOTSTRAP_DRAWS, draw_subjects, interval95
from retrieval.localize.refine.refiner import Refiner, open_refiner
from retrieval.localize.refine.regions import boxes_of, clean_masks
from retrieval.localize.saliency.maps import scaled
from retrieval.localize.specificity.calibration import SpecificityCalibration
from retrieval.localize.specificity.calibration_fit import calibrate
from retrieval.localize.specificity.map_statistics import Contrasts, measure
from trainer.models.resolve import open_encoder
from trainer.runtime.encoder import Encoder
from trainer.runtime.segmenter import Segmenter, Shape, canonical
from trainer.train.segmenter_loop import SegmenterConfig, train_segmenter

Mask = NDArray[np.bool_]

PHANTOMS = ("consolidation", "pleural_effusion", "nodule")
DRAWN = {"Ground Glass Opacities": "ground_glass", "Consolidation": "consolidation"}
BOXED = {"Effusion": "pleural_effusion", "Cardiomegaly": "cardiomegaly"}
LABELLED = 200  # training radiographs at most with each finding, and as many without
TUMOUR = "breast tumour"
SURE = 0.8
"""Confidence where no calibration applies: a denial, or a mask in a set that all show the structure."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An image and a structure.

    `truth`: its ground-truth mask, None where there is none. `training`: for training, not for scoring.
    `present`: whether the image is known to show the structure. `teaches`: whether an image for training has
    a pseudo-label; else its ground truth is in the mean mask alone.
    """

    location: str
    structure: str
    truth: Mask | None
    training: bool
    present: bool = True
    teaches: bool = True


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/localization"),
        help="folder of the encoders that benchmarks.localization trains",
    )
    parser.add_argument(
        "--encoder", type=Path, default=Path("runs/phantom"), help="used if RUNS/phantoms is absent"
    )
    parser.add_argument("--method", default="patches")
    parser.add_argument(
        "--refine", help="edge refinement of all masks but the mean (default: as localize has it)"
    )
    parser.add_argument("--set", action="append", help="measure only on this set (repeatable)")
    parser.add_argument("--phantoms", type=int, default=1_500)
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    drawn_chests, real, breast = (options.runs / name for name in ("phantoms", "real", "breast"))
    tuning = f"manifest:{options.runs / 'nih-val.csv'}"
    sets = {
        "phantoms": (
            drawn_chests if drawn_chests.is_dir() else options.encoder,
            phantoms(options.phantoms),
            "phantom:300@55",
        ),
        "covid-cxr-segmentation": (
            real,
            drawn(options.data / "covid-cxr-segmentation", DRAWN, in_half),
            tuning,
        ),
        "nih-boxes": (real, boxed(options.data / "nih-chestxray14"), tuning),
        "busi": (breast, drawn(options.data / "busi", {"": TUMOUR}, trains), None),
    }
    config = SegmenterConfig(shape=Shape(), epochs=options.epochs, cycles=4)
    table = Table(title=f"Dice, 95 % intervals over images; teacher: {options.method}")
    for heading in ("", "structure", "images", "teacher", "mean mask", "segmenter", "segmenter − teacher"):
        table.add_column(heading, justify="left" if heading in ("", "structure") else "right")
    for name, (encoder, cases, calibration_source) in sets.items():
        if options.set and name not in options.set:
            continue
        if not encoder.is_dir():
            print(f"{name} omitted: there is no encoder {encoder}")
            continue
        for row in compare(
            list(cases), Teacher.of(encoder, options.method, options.refine, calibration_source), config
        ):
            table.add_row(name, *row)
    Console(width=150).print(table)
    print(describe_machine())


def phantoms(count: int) -> Iterator[Case]:
    """Yield phantoms, two thirds for training. A structure is known to be absent if the report denies it."""
    for number in range(count):
        radiograph = scene(21, number)
        drawn = drawn_masks(radiograph)
        for structure in PHANTOMS:
            truth = drawn.get(structure)
            if truth is not None or structure in radiograph.negated:
                yield Case(f"phantom://21/{number}", structure, truth, number % 3 > 0, truth is not None)


def in_half(name: str) -> bool:
    """Return whether an image is in the half for training."""
    return hashlib.sha256(name.encode()).digest()[0] < 128


def trains(name: str) -> bool:
    """Return whether the encoder of `benchmarks.localization` was trained on an image."""
    return split_of(f"manifest:busi:{name}") != "test"


def drawn(folder: Path, structures: dict[str, str], learns: Callable[[str], bool]) -> Iterator[Case]:
    """Yield images with hand-drawn masks, one per structure. `learns` selects the images to train on."""
    found: dict[tuple[str, str], Mask] = {}
    with (folder / "masks.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            structure = structures.get(line["structure"], structures.get(""))
            if structure is None:
                continue
            with Image.open(folder / "masks" / line["mask"]) as opened:
                mask = np.asarray(opened.convert("L")) > 127
            key = line["image"], structure
            found[key] = found[key] | mask if key in found else mask
    for (image, structure), truth in found.items():
        if truth.any():
            yield Case(str(folder / "images" / image), structure, truth, learns(image))


def boxed(folder: Path) -> Iterator[Case]:
    """Yield ChestX-ray14 radiographs: for training labelled ones and normal ones, for scoring boxes.

    The boxes of the training images make the mean mask; the teacher does not see them.
    """
    annotations = open_annotations(None, folder / "BBox_List_2017.csv", folder, lambda problem: None)
    boxes = {
        (image.name, BOXED[label]): mask
        for image in annotations.read(lambda problem: None)
        for label, mask in image.structures.items()
        if label in BOXED
    }
    counts: Counter[str] = Counter()
    for study in open_source(f"nih-chestxray14:{folder}").studies(lambda problem: None):
        location, split = study.images[0].location, split_of(study.subject_id)
        for structure in BOXED.values():
            status = study.findings.get(structure)
            truth = boxes.get((Path(location).name, structure))
            if split == "test" and truth is not None:
                yield Case(location, structure, truth, False)
            elif split == "train" and status in (Status.PRESENT, Status.ABSENT):
                counts[f"{structure} {status}"] += 1
                teaches = counts[f"{structure} {status}"] <= LABELLED
                if teaches or truth is not None:
                    yield Case(location, structure, truth, True, status is Status.PRESENT, teaches)


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A localizer for structures known to be present: it always returns a mask and its confidence."""

    encoder: Encoder
    method: str
    calibration: SpecificityCalibration | None
    contrasts: Contrasts
    refiner: Refiner | None

    @classmethod
    def of(cls, folder: Path, method: str, refine: str | None, calibration_source: str | None) -> "Teacher":
        """Calibrate on images with known findings, if a source of them is given."""
        encoder = open_encoder(folder)
        fitted = None
        if calibration_source is not None:
            fitted = calibrate(encoder, open_source(calibration_source).studies(lambda problem: None), method)
        return cls(encoder, method, fitted, Contrasts(encoder), open_refiner(refine))

    def mask_of(self, image: NDArray[np.float32], structure: str) -> tuple[Mask, float]:
        """Return the mask and its confidence in [0, 1]."""
        texts = self.encoder.encode_texts([structure.replace("_", " ")])
        references = None if self.calibration is None else self.calibration.references
        maps, statistics = measure(self.encoder, image, texts, self.method, self.contrasts, references)
        heat = scaled(maps.over(0))
        [mask] = clean_masks(image, [heat], [VOCABULARY.find(structure)])
        mask = refined(mask, image, heat, self.refiner)
        return mask, SURE if self.calibration is None else float(self.calibration.specificity(statistics)[0])


def compare(cases: Sequence[Case], teacher: Teacher, config: SegmenterConfig) -> list[list[str]]:
    """Train on the teacher's masks of the training images; score on the others, a row per structure."""
    with tempfile.TemporaryDirectory() as scratch:
        noisy = Path(scratch) / "masks"
        teach([case for case in cases if case.training and case.teaches], teacher, noisy)
        folder = train_segmenter(noisy, Path(scratch) / "run", config, lambda *_: None)
        segmenter = Segmenter.load(folder)
    rows = []
    for structure in sorted({case.structure for case in cases}):
        mean = mean_mask([c for c in cases if c.training and c.structure == structure])
        scores = [
            (
                dice(teacher.mask_of(image, structure)[0], truth),
                dice(over(mean, image.shape), truth),
                dice(draw(segmenter, image, structure, teacher.refiner), truth),
            )
            for case in cases
            if not case.training and case.structure == structure and (truth := case.truth) is not None
            for image in [read_image(case.location)]
        ]
        if scores:
            rows.append([structure, str(len(scores)), *means_with_intervals(np.array(scores))])
    return rows


def teach(cases: Sequence[Case], teacher: Teacher, folder: Path) -> None:
    """Write pseudo-labels as `localize --corpus` does; a structure known to be absent has no mask."""
    folder.mkdir()
    with (folder / "masks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask", "structure", "confidence"])
        for number, case in enumerate(cases):
            if not case.present:
                writer.writerow(
                    [
                        Path(case.location).absolute() if "://" not in case.location else case.location,
                        "",
                        case.structure,
                        SURE,
                    ]
                )
                continue
            mask, confidence = teacher.mask_of(read_image(case.location), case.structure)
            if mask.any():
                name = f"{number}.png"
                Image.fromarray(mask).save(folder / name)
                image = case.location if "://" in case.location else str(Path(case.location).absolute())
                writer.writerow([image, name, case.structure, f"{confidence:.4f}"])


def draw(segmenter: Segmenter, image: NDArray[np.float32], structure: str, refiner: Refiner | None) -> Mask:
    """Return the segmenter's mask, as `localize --segmenter` draws it where the structure is present."""
    [drawn_] = segmenter.segment([image])
    channel = segmenter.structures.index(canonical(structure))
    heat = drawn_.probability[channel]
    inside: Mask = heat >= segmenter.thresholds[channel]
    return refined(inside, image, heat, refiner)


def refined(
    mask: Mask, image: NDArray[np.float32], heat: NDArray[np.float32], refiner: Refiner | None
) -> Mask:
    """Return the mask refined along the image's edges; unchanged if it is empty or there is no refiner."""
    return mask if refiner is None or not mask.any() else refiner.refine(image, heat, mask, boxes_of(mask))


def mean_mask(cases: Sequence[Case]) -> NDArray[np.float32]:
    """Return the mean of ground-truth masks in the square, thresholded at the level that is best on them."""
    framing = Framing(128)
    masks = np.stack([framing.apply(c.truth.astype(np.float32)) for c in cases if c.truth is not None])
    mean = masks.mean(axis=0)
    levels = mean.max() * np.arange(0.05, 1.0, 0.05)
    best = max(levels, key=lambda level: np.mean([dice(mean > level, mask > 0.5) for mask in masks]))
    above: NDArray[np.bool_] = mean > best
    return above.astype(np.float32)


def over(mean: NDArray[np.float32], shape: tuple[int, ...]) -> Mask:
    """Return a mask of the square, brought to an image's pixels."""
    inside: Mask = Framing(128).undo(mean, shape[0], shape[1]) > 0.5
    return inside


def dice(one: Mask, other: Mask) -> float:
    """Return the Dice coefficient of two masks; 1 if both are empty."""
    both = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / both if both else 1.0


def means_with_intervals(scores: NDArray[np.float64]) -> list[str]:
    """Return means with 95 % bootstrap intervals over images, and the segmenter's lead over its teacher."""
    columns = np.column_stack([scores, scores[:, 2] - scores[:, 0]])
    drawn = draw_subjects(np.arange(len(columns)), BOOTSTRAP_DRAWS, seed=0)
    cells = []
    for column in columns.T:
        low, high = interval95(drawn @ column / len(column)) or (np.nan, np.nan)
        cells.append(f"{column.mean():.3f} ({low:.2f} … {high:.2f})")
    return cells


if __name__ == "__main__":
    main()
