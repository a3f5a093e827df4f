"""`similarity evaluate-localization`: localizers beside baselines. Only click is imported until it runs."""

from pathlib import Path
from typing import Any

import click

from similarity.cli.console import note, print_json, ruled_table, wide_console
from similarity.cli.resources import open_encoder
from similarity.progress import progress_bars

EPILOG = """\b
Examples:
  similarity evaluate-localization --masks phantom:100@5 --encoder runs/phantom --method patches
  similarity evaluate-localization --masks DIR --structure Consolidation --encoder E --method gscorecam
  similarity evaluate-localization --boxes BBox_List_2017.csv --images DIR --encoder E --json

A mask folder has masks.csv (image, mask, structure; subject_id if a subject has several images), images/
and masks/. Boxes are the NIH table, in pixels of the 1024 px originals; images may be smaller."""


@click.command("evaluate-localization", epilog=EPILOG)
@click.option("--masks", metavar="DIR|phantom:COUNT@SEED", help="Ground-truth masks: a folder, or phantoms.")
@click.option(
    "--boxes",
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="Ground-truth boxes, in ChestX-ray14's format.",
)
@click.option("--images", metavar="DIR", type=click.Path(path_type=Path), help="The images of --boxes.")
@click.option("--encoder", "encoder_name", required=True, metavar="DIR|NAME", help="The encoder to measure.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="Localizer to measure, a row each (repeat; default: all that need only the encoder).",
)
@click.option(
    "--segmenter",
    "segmenters",
    multiple=True,
    metavar="DIR",
    help="Folder of a segmenter, a row each (repeat).",
)
@click.option(
    "--refine",
    default=None,
    metavar="R",
    help="Mask refinement (default: as `localize`).",
)
@click.option("--structure", "structures", multiple=True, metavar="NAME", help="Only this one (repeat).")
@click.option("--allow-seen", is_flag=True, help="Also measure on subjects of the encoder's training.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed.",
)
@click.option("--device", default=None, help="Where the encoder runs: auto, cpu, cuda, …")
@click.option("--strict", is_flag=True, help="Exit 1 if any item failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def evaluate_localization(
    masks: str | None,
    boxes: Path | None,
    images: Path | None,
    encoder_name: str,
    methods: tuple[str, ...],
    segmenters: tuple[str, ...],
    refine: str | None,
    structures: tuple[str, ...],
    allow_seen: bool,
    seed: int,
    device: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Measure localizers against ground-truth masks or boxes, beside image-agnostic baselines.

    Pointing-game accuracy, IoU, Dice and normalised surface distance (NSD) of each structure, with 95 %
    intervals over subjects. The tolerance is 2 % of the image's longer side. A structure that is a finding of
    the vocabulary is queried by the finding's name, any other by its own.
    """
    import sys
    import time
    from functools import partial

    from corpus.annotations import open_annotations
    from corpus.records import Problem
    from corpus.settings import settings
    from trainer.models.resolve import resolve_encoder

    resolve_encoder(encoder_name)  # a wrong name is found before torch is imported
    problems: list[Problem] = []
    annotations = open_annotations(masks, boxes, images, problems.append)

    from retrieval.localize.evaluation.evaluate import measure_localizers, record
    from retrieval.localize.localizer import method_localizers, method_names, segmenter_localizers
    from retrieval.localize.refine.refiner import open_refiner
    from trainer.runtime.training_overlap import was_trained_on

    device = device or settings().device
    refiner = open_refiner(refine, device)
    learned = segmenter_localizers(segmenters, device, refiner)
    encoder = open_encoder(encoder_name, device)
    localizers = {**method_localizers(encoder, method_names(methods), refiner), **learned}
    began = time.monotonic()
    with progress_bars() as on_progress:
        measured = measure_localizers(
            annotations,
            localizers,
            structures=structures or None,
            seen=partial(was_trained_on, encoder.record),
            allow_seen=allow_seen,
            seed=seed,
            on_progress=on_progress,
        )
    measured.problems[:0] = problems
    measured_encoder = {"name": encoder.name, "fingerprint": encoder.fingerprint}
    by = refiner.name if refiner else "none"
    made = record(measured, list(localizers), measured_encoder, by, seed, time.monotonic() - began)
    if as_json:
        print_json(made, indent=2, allow_nan=False)
    else:
        _print_tables(made)
    failed = _report(made)
    if strict and failed:
        sys.exit(1)


def _print_tables(made: dict[str, Any]) -> None:
    """Print one table a structure: a row a method with its intervals, baselines below."""
    from retrieval.localize.evaluation.evaluate import METRICS
    from retrieval.localize.evaluation.intervals import show_mean

    console = wide_console()
    for entry in made["structures"]:
        title = f"{entry['structure']} (queried as {entry['phrase']!r}), {entry['questions']} annotations"
        table = ruled_table(title, "", *METRICS)
        for row in entry["rows"]:
            cells = [show_mean(row[metric]) for metric in METRICS]
            table.add_row(row["method"].replace("_", " "), *cells, style="dim" if row["baseline"] else None)
        console.print(table)
    percent = 100 * made["tolerance"]
    console.print(
        f"{made['pictures']} images of {made['subjects']} subjects; "
        f"masks refined by {made['refined_by']}; 95 % intervals over subjects "
        f"({made['bootstrap_draws']} draws, seed {made['seed']}); tolerance {percent:.0f} % of "
        f"the longer side; {made['seconds']:.0f} s"
    )


def _report(made: dict[str, Any]) -> int:
    """Print the items that were not measured on stderr; return the number that failed."""
    counts = ", ".join(f"{count} {state}" for state, count in made["left_out"].items() if count)
    if counts:
        note(f"left out: {counts}")
    for failure in made["failures"][:10]:
        note(f"  {failure['item_id']}: {failure['reason']}")
    if len(made["failures"]) > 10:
        note(f"  … and {len(made['failures']) - 10} more; --json lists all")
    return int(made["left_out"]["failed"])
