"""The segmenter beside the teacher it learned from and beside the mean mask: Dice of images it never saw.

    python -m benchmarks.segmenter --data ../shared/data

The teacher is a localizer asked only for what an image is known to show, as its report would say; its masks,
each as sure as its calibration believes it, are all that the segmenter learns from. True masks score, and
make the mean mask: that of the training images, at the level that is best on them, which the segmenter never
had. The teachers' encoders are those that `benchmarks.localization` trains; without them phantoms alone are
measured, with `--encoder`.
"""

import argparse
import csv
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from corpus.findings import VOCABULARY
from corpus.geometry import Framing
from corpus.images.reader import read_image
from corpus.phantom import masks as drawn_masks
from corpus.phantom import scene
from corpus.sources import open_source
from corpus.splits import split_of
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
TUMOUR = "breast tumour"
SURE = 0.8
"""Confidence where no calibration applies: a denial, or a mask in a set that all show the structure."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An image, the structure asked for, its true mask (None: it is not there), and its part."""

    location: str
    structure: str
    truth: Mask | None
    training: bool


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/localization"), help="encoders phantoms, images and breast"
    )
    parser.add_argument(
        "--encoder", type=Path, default=Path("runs/phantom"), help="where phantoms is not there"
    )
    parser.add_argument("--method", default="patches")
    parser.add_argument(
        "--refine", help="what follows the edges of all masks but the mean (default: as localize has it)"
    )
    parser.add_argument("--set", action="append", help="measure on these alone (repeat)")
    parser.add_argument("--phantoms", type=int, default=1_500)
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    drawn_chests, chest, breast = (options.runs / name for name in ("phantoms", "films", "breast"))
    sets = {
        "phantoms": (
            drawn_chests if drawn_chests.is_dir() else options.encoder,
            phantoms(options.phantoms),
            "phantom:300@55",
        ),
        "covid-cxr-segmentation": (
            chest,
            drawn(options.data / "covid-cxr-segmentation", DRAWN, in_half),
            f"manifest:{options.runs / 'films-val' / 'manifest.csv'}",
        ),
        "busi": (breast, drawn(options.data / "busi", {"": TUMOUR}, trains), None),
    }
    config = SegmenterConfig(shape=Shape(), epochs=options.epochs, cycles=4)
    table = Table(title=f"Dice, 95 % intervals over images; teacher: {options.method}")
    for heading in ("", "structure", "films", "teacher", "mean mask", "segmenter", "segmenter − teacher"):
        table.add_column(heading, justify="left" if heading in ("", "structure") else "right")
    for name, (encoder, cases, between) in sets.items():
        if options.set and name not in options.set:
            continue
        if not encoder.is_dir():
            print(f"{name} left out: there is no encoder {encoder}")
            continue
        for row in compare(list(cases), Teacher.of(encoder, options.method, options.refine, between), config):
            table.add_row(name, *row)
    Console(width=150).print(table)
    print(describe_machine())


def phantoms(count: int) -> Iterator[Case]:
    """Two thirds to learn from; that an image lacks a structure is known where its report denies it."""
    for number in range(count):
        radiograph = scene(21, number)
        shown = drawn_masks(radiograph)
        for structure in PHANTOMS:
            truth = shown.get(structure)
            if truth is not None or structure in radiograph.negated:
                yield Case(f"phantom://21/{number}", structure, truth, number % 3 > 0)


def in_half(name: str) -> bool:
    """Whether an image is in the half to learn from."""
    return hashlib.sha256(name.encode()).digest()[0] < 128


def trains(name: str) -> bool:
    """Whether an image was among those that the encoder of `benchmarks.localization` learned from."""
    return split_of(f"manifest:busi:{name}") != "test"


def drawn(folder: Path, structures: dict[str, str], learns: Callable[[str], bool]) -> Iterator[Case]:
    """Images with masks by hand, one a structure. `learns` selects the images to train on."""
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


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A localizer for structures known to be present: it always returns a mask and its confidence."""

    encoder: Encoder
    method: str
    calibration: SpecificityCalibration | None
    contrasts: Contrasts
    refiner: Refiner | None

    @classmethod
    def of(cls, folder: Path, method: str, refine: str | None, between: str | None) -> "Teacher":
        """Calibrated on images with known findings, where there are some."""
        encoder = open_encoder(folder)
        fitted = None
        if between is not None:
            fitted = calibrate(encoder, open_source(between).studies(lambda problem: None), method)
        return cls(encoder, method, fitted, Contrasts(encoder), open_refiner(refine))

    def ask(self, image: NDArray[np.float32], structure: str) -> tuple[Mask, float]:
        """The mask, and in [0, 1] how much it is believed."""
        texts = self.encoder.encode_texts([structure.replace("_", " ")])
        references = None if self.calibration is None else self.calibration.references
        maps, statistics = measure(self.encoder, image, texts, self.method, self.contrasts, references)
        heat = scaled(maps.over(0))
        [mask] = clean_masks(image, [heat], [VOCABULARY.find(structure)])
        mask = refined(mask, image, heat, self.refiner)
        return mask, SURE if self.calibration is None else float(self.calibration.specificity(statistics)[0])


def compare(cases: Sequence[Case], teacher: Teacher, config: SegmenterConfig) -> list[list[str]]:
    """Train on the teacher's masks of one part, and score all three on the other; a row a structure."""
    with tempfile.TemporaryDirectory() as scratch:
        noisy = Path(scratch) / "masks"
        teach([case for case in cases if case.training], teacher, noisy)
        folder = train_segmenter(noisy, Path(scratch) / "run", config, lambda *_: None)
        segmenter = Segmenter.load(folder)
    rows = []
    for structure in sorted({case.structure for case in cases}):
        mean = mean_mask([c for c in cases if c.training and c.structure == structure])
        scores = [
            (
                dice(teacher.ask(image, structure)[0], truth),
                dice(over(mean, image.shape), truth),
                dice(draw(segmenter, image, structure, teacher.refiner), truth),
            )
            for case in cases
            if not case.training and case.structure == structure and (truth := case.truth) is not None
            for image in [read_image(case.location)]
        ]
        if scores:
            rows.append([structure, str(len(scores)), *summary(np.array(scores))])
    return rows


def teach(cases: Sequence[Case], teacher: Teacher, folder: Path) -> None:
    """Write the folder that a localizer hands on. An image known to lack a structure has an empty mask."""
    folder.mkdir()
    with (folder / "masks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask", "structure", "confidence"])
        for number, case in enumerate(cases):
            if case.truth is None:
                writer.writerow(
                    [
                        Path(case.location).absolute() if "://" not in case.location else case.location,
                        "",
                        case.structure,
                        SURE,
                    ]
                )
                continue
            mask, sure = teacher.ask(read_image(case.location), case.structure)
            if mask.any():
                name = f"{number}.png"
                Image.fromarray(mask).save(folder / name)
                position = case.location if "://" in case.location else str(Path(case.location).absolute())
                writer.writerow([position, name, case.structure, f"{sure:.4f}"])


def draw(segmenter: Segmenter, image: NDArray[np.float32], structure: str, refiner: Refiner | None) -> Mask:
    """The segmenter's mask, as `localize --segmenter` draws it where the structure is there."""
    [drawn_] = segmenter.segment([image])
    channel = segmenter.structures.index(canonical(structure))
    heat = drawn_.probability[channel]
    inside: Mask = heat >= segmenter.thresholds[channel]
    return refined(inside, image, heat, refiner)


def refined(
    mask: Mask, image: NDArray[np.float32], heat: NDArray[np.float32], refiner: Refiner | None
) -> Mask:
    """The mask along the image's edges, where there is one and something that follows them."""
    return mask if refiner is None or not mask.any() else refiner.refine(image, heat, mask, boxes_of(mask))


def mean_mask(cases: Sequence[Case]) -> NDArray[np.float32]:
    """The mean of true masks in the square, where it is above the level that is best on them."""
    framing = Framing(128)
    masks = np.stack([framing.apply(c.truth.astype(np.float32)) for c in cases if c.truth is not None])
    mean = masks.mean(axis=0)
    levels = mean.max() * np.arange(0.05, 1.0, 0.05)
    best = max(levels, key=lambda level: np.mean([dice(mean > level, mask > 0.5) for mask in masks]))
    level: NDArray[np.bool_] = mean > best
    return level.astype(np.float32)


def over(mean: NDArray[np.float32], shape: tuple[int, ...]) -> Mask:
    """A mask of the square over an image."""
    inside: Mask = Framing(128).undo(mean, shape[0], shape[1]) > 0.5
    return inside


def dice(one: Mask, other: Mask) -> float:
    """Twice the shared pixels by all; of two empty masks 1."""
    both = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / both if both else 1.0


def summary(scores: NDArray[np.float64]) -> list[str]:
    """Means with 95 % bootstrap intervals over images, then the segmenter's lead over its teacher."""
    random = np.random.default_rng(0)
    columns = np.column_stack([scores, scores[:, 2] - scores[:, 0]])
    draws = columns[random.integers(len(columns), size=(1_000, len(columns)))].mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return [
        f"{mean:.3f} ({a:.2f} … {b:.2f})" for mean, a, b in zip(columns.mean(axis=0), low, high, strict=True)
    ]


if __name__ == "__main__":
    main()
