"""Where findings are: every localizer beside the baselines, on drawn and real pictures; how it refuses.

    python -m benchmarks.localization --data ../shared/data

Trains two encoders where they are not there yet, by one recipe (trainer/recipes/localize.toml): one on
phantoms and on counterfactual films of the people who train, one on breast ultrasound (busi), the second
anatomy. Then every method is a row on: phantoms and counterfactual films of people left out, hand-drawn masks
of covid-cxr-segmentation, the radiologists' boxes of ChestX-ray14, and busi's own left-out pictures.
"""

import argparse
import csv
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from corpus.counterfactual import normal_films
from corpus.counterfactual_folder import write_counterfactuals
from corpus.marks import Marks, MaskFolder, open_marks
from corpus.sources import open_source
from corpus.splits import Split, split_of
from retrieval.localize.calibrating import calibrate
from retrieval.localize.calibration import Calibration
from retrieval.localize.evaluate import measure_localizers, tabulate
from retrieval.localize.intervals import show_mean
from retrieval.localize.localizers import row_names
from retrieval.localize.localizing import localize
from trainer.config import read_config
from trainer.encoder import Encoder
from trainer.loop import train
from trainer.registry import find_encoder
from trainer.seen import has_seen

RECIPE = Path(__file__).resolve().parents[1] / "trainer" / "recipes" / "localize.toml"
SHOWN = ("pointing", "dice", "nsd", "masked", "side_right")
PHANTOMS = "phantom:1500@11"
BETWEEN = "phantom:300@55"
"""To calibrate on: nobody of it trains, nobody of it is measured."""
LEFT_OUT = "phantom:150@77"
PER_FILM: Mapping[Split, int] = {"train": 12, "val": 3, "test": 3}


def main() -> None:
    """Train what is not there, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/localization"), help="where encoders go")
    parser.add_argument("--method", action="append", help="measure these alone (repeat)")
    options = parser.parse_args()
    console = Console(width=150, highlight=False)
    methods = row_names(options.method or [])
    options.runs.mkdir(parents=True, exist_ok=True)
    nih = options.data / "nih-chestxray14"
    drawn = {split: _draw_films(nih, options.runs / f"films-{split}", split) for split in PER_FILM}
    chest = _train(
        options.runs / "chest",
        [PHANTOMS, f"manifest:{drawn['train'] / 'manifest.csv'}"],
        {},
        console,
    )
    busi = options.data / "busi"
    breast = _train(
        options.runs / "breast",
        [f"manifest:{_list_pictures(busi, options.runs / 'busi.csv')}"],
        # Two sentences tell all these pictures apart; they are few, and none is without a tumour.
        {"loss.name": "infonce", "sampling.text_batch_size": 0, "epochs": 60},
        console,
    )
    listed = {split: f"manifest:{folder / 'manifest.csv'}" for split, folder in drawn.items()}
    drawn_chests = _calibrated(chest, methods, BETWEEN)
    films = _calibrated(chest, methods, listed["val"])
    breasts = _calibrated(breast, methods, f"manifest:{options.runs / 'busi.csv'}")
    sets: list[tuple[str, Encoder, Marks, Callable[[str], bool], Mapping[str, Calibration]]] = [
        ("phantoms", chest, open_marks(LEFT_OUT, None, None, print), _nobody, drawn_chests),
        ("counterfactual films", chest, MaskFolder.open(drawn["test"]), _nobody, films),
        ("covid-cxr-segmentation", chest, MaskFolder.open(options.data / "covid-cxr-segmentation"), _nobody,
         films),
        ("ChestX-ray14 boxes", chest, open_marks(None, nih / "BBox_List_2017.csv", nih, print),
         partial(has_seen, chest.record), films),
        ("busi, left-out pictures", breast, MaskFolder.open(busi), _trains, breasts),
    ]  # fmt: skip
    for title, encoder, marks, seen, believed in sets:
        began = time.monotonic()
        rows = {name: partial(localize, encoder, method=name, thresholds=believed[name]) for name in methods}
        measured = measure_localizers(marks, rows, seen=seen)
        made = tabulate(measured, methods)
        for entry in made["structures"]:
            console.print(_table(title, entry))
        console.print(
            f"{measured.pictures} pictures of {len(measured.subjects)} people, {len(measured.seen_subjects)} "
            f"seen people left out, {time.monotonic() - began:.0f} s"
        )
    console.print(_refusals({"phantoms": drawn_chests, "counterfactual films": films, "busi": breasts}))
    console.print(describe_machine())


def _nobody(subject: str) -> bool:
    return False


def _trains(subject: str) -> bool:
    return split_of(f"manifest:{subject}") != "test"


def _draw_films(nih: Path, out: Path, split: Split) -> Path:
    """Counterfactual films of one split's people, drawn once."""
    if not out.is_dir():
        films = normal_films(open_source(f"nih-chestxray14:{nih}"), split, lambda problem: None)
        write_counterfactuals(films, out, per_film=PER_FILM[split], seed=31)
    return out


def _list_pictures(folder: Path, out: Path) -> Path:
    """A mask folder's pictures as a manifest: each with the name of what is on it, and nothing of where."""
    marks = MaskFolder.open(folder)
    with out.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("study_id", "subject_id", "image", "report"))
        for name, parts in marks.rows.items():
            place = os.path.relpath(folder / "images" / name, out.parent)
            report = " ".join(f"{structure.capitalize()}." for structure in parts)
            table.writerow((name, marks.subjects[name], place, report))
    return out


def _train(out: Path, corpus: Sequence[str], overrides: Mapping[str, Any], console: Console) -> Encoder:
    if not (out / "encoder").is_dir():
        began = time.monotonic()
        settings = {"corpus": tuple(corpus), **overrides}
        train(read_config(RECIPE, settings), out)
        console.print(f"{out.name} trained in {time.monotonic() - began:.0f} s")
    return Encoder.load(find_encoder(out))


def _table(title: str, entry: Mapping[str, Any]) -> Table:
    heading = f"{title}: {entry['structure']} (asked as {entry['phrase']!r}), {entry['questions']} marks"
    table = Table("", *SHOWN, title=heading, title_justify="left")
    for row in entry["rows"]:
        style = "dim" if row["baseline"] else None
        table.add_row(row["method"].replace("_", " "), *(show_mean(row[name]) for name in SHOWN), style=style)
    return table


def _calibrated(encoder: Encoder, methods: Sequence[str], source: str) -> dict[str, Calibration]:
    """When each method's maps are believed, fitted on films whose findings are known."""
    studies = open_source(source).studies
    return {method: calibrate(encoder, studies(lambda problem: None), method) for method in methods}


def _refusals(fitted: Mapping[str, Mapping[str, Calibration]]) -> Table:
    """How often a mask is given where one is due and none where none is, on films not fitted on."""
    columns = ("present: mask", "absent: none", "shuffled: none", "random vector: none")
    table = Table("", "films", *columns, title="Masks given and refused", title_justify="left")
    for title, methods in fitted.items():
        for method, calibration in methods.items():
            kinds = (calibration.rates.get(kind) for kind in ("present", "absent", "shuffled", "random"))
            table.add_row(method, title, *("–" if rate is None else f"{rate:.2f}" for rate in kinds))
    return table


if __name__ == "__main__":
    main()
