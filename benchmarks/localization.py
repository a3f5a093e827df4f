"""Localization: every method beside the image-agnostic baselines, on drawn and real images; specificity.

    python -m benchmarks.localization --data ../shared/data

Trains four encoders where they are not there yet, by three recipes of trainer/recipes: on phantoms
(localize.toml), from there on counterfactual images of training subjects (localize-films.toml), on real
radiographs and, as the second anatomy, on breast ultrasound (localize-real.toml). Then every method is a row
on: phantoms and counterfactual images of held-out subjects; and by the encoder of real images the hand-drawn
masks of covid-cxr-segmentation, the boxes of ChestX-ray14, and held-out images of busi.
"""

import argparse
import csv
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from corpus.annotations import AnnotationSet, MaskFolder, open_annotations
from corpus.counterfactual.draw import normal_radiographs
from corpus.counterfactual.folder import write_counterfactuals
from corpus.findings import Status
from corpus.normal_images import normal_images
from corpus.sources import open_source
from corpus.splits import Split, split_of
from retrieval.localize.evaluation.aggregation import tabulate
from retrieval.localize.evaluation.evaluate import SplitChoice, measure_localizers
from retrieval.localize.evaluation.intervals import show_mean
from retrieval.localize.localizer import localize, method_names
from retrieval.localize.refine.refiner import open_refiner
from retrieval.localize.specificity.calibration import SpecificityCalibration
from retrieval.localize.specificity.calibration_fit import calibrate
from trainer.models.resolve import open_encoder
from trainer.runtime.encoder import Encoder
from trainer.runtime.training_overlap import was_trained_on
from trainer.train.config_file import read_config
from trainer.train.loop import train

IMAGENET = Path("mobilenetv2_100-imagenet", "model.safetensors")
RECIPES = Path(__file__).resolve().parents[1] / "trainer" / "recipes"
NORMALS = 100
"""Normal images of a set that are measured at most."""
REFUSALS = ("", "set", "present: mask", "absent: none", "shuffled: none", "random vector: none")
SHOWN = ("pointing", "dice", "nsd", "masked", "specificity", "side_right")
SHOWN_OF_BOXES = (
    "pointing", "hit_iou_25", "hit_iobb_10", "hit_iobb_25", "hit_iobb_50", "box_dice", "masked",
    "specificity",
)  # fmt: skip
PER_IMAGE: Mapping[Split, int] = {"train": 72, "val": 7, "test": 12}


def main() -> None:
    """Train the encoders that are not there, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/localization"), help="folder of the encoders")
    parser.add_argument("--method", action="append", help="measure only this method (repeatable)")
    parser.add_argument(
        "--set", action="append", help=f"measure only on this set (repeatable): {', '.join(SETS)}"
    )
    parser.add_argument("--refine", help="edge refinement of masks (default: as localize has it)")
    options = parser.parse_args()
    console = Console(width=190, highlight=False)
    methods, refiner = method_names(options.method or []), open_refiner(options.refine)
    options.runs.mkdir(parents=True, exist_ok=True)
    refusals = Table(*REFUSALS, title="Sensitivity and specificity of masks", title_justify="left")
    for name in options.set or SETS:
        measured, encoder = SETS[name], _encoder(SETS[name].encoder, options.data, options.runs, console)
        calibrated = _calibrated(measured, encoder, methods, options.data, options.runs)
        began = time.monotonic()
        rows = {
            method: partial(
                localize, encoder, method=method, refine=refiner, calibration=calibrated.get(method)
            )
            for method in methods
        }
        annotations = measured.annotations(options.data, options.runs)
        evaluation = measure_localizers(
            annotations,
            rows,
            split=measured.split,
            seen=partial(measured.seen, encoder),
            normals=normal_images(annotations),
            most_normals=NORMALS,
        )
        made = tabulate(evaluation, methods)
        shown = SHOWN_OF_BOXES if annotations.kind == "boxes" else SHOWN
        for entry in made["structures"]:
            console.print(_table(name, entry, shown))
        console.print(_macro_table(name, made, shown))
        console.print(
            f"{evaluation.images} images of {len(evaluation.subjects)} subjects, "
            f"{evaluation.normal_images} normal images of {len(evaluation.normal_subjects)}, "
            f"{len(evaluation.seen_subjects)} subjects of the encoder's training excluded, masks refined by "
            f"{refiner.name if refiner else 'none'}, "
            f"{time.monotonic() - began:.0f} s"
        )
        if measured.fits_own_threshold:
            _add_refusals(refusals, name, calibrated)
    console.print(refusals)
    console.print(describe_machine())


@dataclass(frozen=True, slots=True)
class Measured:
    """One set of annotated images.

    `encoder`: which of the four. `annotations`: (data, runs) → the ground truth. `calibration`: (data, runs)
    → the source that masks are calibrated on; None: the vocabulary lacks what these images show, and a fixed
    threshold decides. `split`: of the subjects. `seen`: whether a subject's images trained the encoder.
    `fits_own_threshold`: the rates of the calibration are printed with this set.
    """

    encoder: str
    annotations: Callable[[Path, Path], AnnotationSet]
    calibration: Callable[[Path, Path], str] | None
    seen: Callable[[Encoder, str], bool] = lambda encoder, subject: False
    fits_own_threshold: bool = False
    split: SplitChoice = "all"


def _images(split: Split) -> Callable[[Path, Path], Path]:
    """Counterfactual images of one split's subjects, drawn once: (data, runs) → their folder."""

    def draw(data: Path, runs: Path) -> Path:
        out = runs / f"films-{split}"
        if not out.is_dir():
            nih = open_source(f"nih-chestxray14:{data / 'nih-chestxray14'}")
            normal = normal_radiographs(nih, split, lambda problem: None)
            write_counterfactuals(normal, out, per_film=PER_IMAGE[split], seed=31)
        return out

    return draw


def _listed(split: Split) -> Callable[[Path, Path], str]:
    return lambda data, runs: f"manifest:{_images(split)(data, runs) / 'manifest.csv'}"


def _breasts(data: Path, runs: Path) -> str:
    """Write busi as a manifest: each image with the name of its finding or as normal, without locations."""
    folder, out = data / "busi", runs / "busi.csv"
    busi = MaskFolder.open(folder)
    with out.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("study_id", "subject_id", "image", "report"))
        for name, parts in busi.rows.items():
            image = os.path.relpath(folder / "images" / name, out.parent)
            named = " ".join(f"{structure.capitalize()}, a mass." for structure in parts)
            table.writerow((name, busi.subjects[name], image, named))
        for normal in normal_images(busi):
            image = os.path.relpath(normal.location, out.parent)
            table.writerow(
                (normal.name, normal.subject_id, image, "Normal breast. No breast tumour, no mass.")
            )
    return f"manifest:{out}"


def _real(data: Path, runs: Path) -> tuple[str, ...]:
    # Not covid-chestxray: it has 68 of the 70 radiographs of covid-cxr-segmentation, and all of Brixia's.
    return tuple(f"{name}:{data / name}" for name in ("nih-chestxray14", "openi"))


def _labels_for_tuning(data: Path, runs: Path) -> str:
    """Write the ChestX-ray14 radiographs of the validation split as a manifest, with their labels."""
    out = runs / "nih-val.csv"
    with out.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("study_id", "subject_id", "image", "view", "present", "absent"))
        for study in open_source(f"nih-chestxray14:{data / 'nih-chestxray14'}").studies(lambda problem: None):
            if split_of(study.subject_id) == "val":
                statuses = [
                    "|".join(name for name, known in study.findings.items() if known is status)
                    for status in (Status.PRESENT, Status.ABSENT)
                ]
                image = os.path.relpath(study.images[0].location, out.parent)
                table.writerow(
                    (study.study_id, study.subject_id, image, study.images[0].view or "", *statuses)
                )
    return f"manifest:{out}"


def _boxes(data: Path, runs: Path) -> AnnotationSet:
    nih = data / "nih-chestxray14"
    return open_annotations(None, nih / "BBox_List_2017.csv", nih, print)


SETS: Mapping[str, Measured] = {
    "phantoms": Measured(
        "phantoms",
        lambda data, runs: open_annotations("phantom:300@78", None, None, print),
        lambda data, runs: "phantom:300@55",
        fits_own_threshold=True,
    ),
    "films": Measured(
        "films",
        lambda data, runs: MaskFolder.open(_images("test")(data, runs)),
        _listed("val"),
        fits_own_threshold=True,
    ),
    "covid-cxr-segmentation": Measured(
        "real", lambda data, runs: MaskFolder.open(data / "covid-cxr-segmentation"), _labels_for_tuning
    ),
    "nih-boxes": Measured(
        "real",
        _boxes,
        _labels_for_tuning,
        lambda encoder, subject: was_trained_on(encoder.record, subject),
        fits_own_threshold=True,
        split="test",
    ),
    "busi": Measured(
        "breast",
        lambda data, runs: MaskFolder.open(data / "busi"),
        None,
        lambda encoder, subject: split_of(f"manifest:{subject}") != "test",
    ),
}


@dataclass(frozen=True, slots=True)
class Training:
    """How an encoder is trained: the recipe, its corpus, settings that differ from the recipe, and the
    encoder that its image backbone starts from."""

    recipe: str
    corpus: Callable[[Path, Path], str | tuple[str, ...]]
    changes: Mapping[str, Any] = field(default_factory=dict)
    backbone_of: str | None = None


TRAINED: Mapping[str, Training] = {
    "phantoms": Training("localize.toml", lambda data, runs: "phantom:5000@11"),
    # Small shadows over ribs are found only with a backbone pretrained on phantoms: after 24 epochs from
    # scratch, pointing-game accuracy is that of chance.
    "films": Training("localize-films.toml", _listed("train"), backbone_of="phantoms"),
    "real": Training("localize-real.toml", _real),
    # A few sentences describe all these images; radiology reports teach the text tower what else there is.
    "breast": Training(
        "localize-real.toml",
        lambda data, runs: (_breasts(data, runs), f"openi:{data / 'openi'}"),
        {"image_pretraining.epochs": 60, "sampling.source_shares": ()},
    ),
}


def _encoder(name: str, data: Path, runs: Path, console: Console) -> Encoder:
    """Return an encoder; train it if it is not there."""
    training = TRAINED[name]
    if not (runs / name / "encoder").is_dir():
        corpus = training.corpus(data, runs)
        changes = {"corpus": (corpus,) if isinstance(corpus, str) else corpus, **training.changes}
        if training.recipe == "localize-real.toml":
            changes["image_weights"] = str(data.parent / "models" / IMAGENET)
        if training.backbone_of is not None:
            _encoder(training.backbone_of, data, runs, console)
            changes["image_weights"] = str(runs / training.backbone_of)
        began = time.monotonic()
        train(read_config(RECIPES / training.recipe, changes), runs / name)
        console.print(f"{name} trained in {time.monotonic() - began:.0f} s")
    return open_encoder(runs / name)


def _table(title: str, entry: Mapping[str, Any], shown: Sequence[str]) -> Table:
    heading = f"{title}: {entry['structure']} (phrase {entry['phrase']!r}), {entry['questions']} annotations"
    table = Table("", *shown, title=heading, title_justify="left")
    for row in entry["rows"]:
        style = "dim" if row["baseline"] else None
        table.add_row(row["method"].replace("_", " "), *(show_mean(row[name]) for name in shown), style=style)
    return table


def _macro_table(title: str, made: Mapping[str, Any], shown: Sequence[str]) -> Table:
    """Means over structures, and in how many of them a method points above the mean mask."""
    count = len(made["structures"])
    heading = f"{title}: mean over {count} structures"
    table = Table("", *shown, "pointing above mean mask", title=heading, title_justify="left")
    for row in made["macro"]:
        cells = [show_mean({"mean": row[name], "ci95": row["ci95"][name]}) for name in shown]
        over = (row["over_mean_mask"] or {}).get("pointing")
        above = "–" if over is None else f"{over['above']}, surely {over['surely_above']}"
        style = "dim" if row["baseline"] else None
        table.add_row(row["method"].replace("_", " "), *cells, above, style=style)
    return table


def _calibrated(
    measured: Measured, encoder: Encoder, methods: Sequence[str], data: Path, runs: Path
) -> Mapping[str, SpecificityCalibration]:
    """Fit each method's specificity calibration on images with known findings."""
    if measured.calibration is None:
        return {}
    studies = open_source(measured.calibration(data, runs)).studies
    return {method: calibrate(encoder, studies(lambda problem: None), method) for method in methods}


def _add_refusals(table: Table, name: str, fitted: Mapping[str, SpecificityCalibration]) -> None:
    """Add the sensitivity and specificity of masks, on images that the calibration was not fitted on."""
    for method, calibration in fitted.items():
        kinds = (calibration.rates.get(kind) for kind in ("present", "absent", "shuffled", "random"))
        table.add_row(method, name, *("–" if rate is None else f"{rate:.2f}" for rate in kinds))


if __name__ == "__main__":
    main()
