"""`similarity evaluate-localization`: localizers beside baselines. Only click is imported until it runs."""

from pathlib import Path
from typing import Any

import click

EPILOG = """\b
Examples:
  similarity evaluate-localization --masks phantom:100@5 --encoder runs/phantom --method patches
  similarity evaluate-localization --masks DIR --structure Consolidation --encoder E --method gscorecam
  similarity evaluate-localization --boxes BBox_List_2017.csv --images DIR --encoder E --json

A mask folder has masks.csv (image, mask, structure; subject_id where a person has several pictures), images/
and masks/. Boxes are the NIH table, in pixels of the 1024 px originals; pictures may be smaller."""


@click.command("evaluate-localization", epilog=EPILOG)
@click.option("--masks", metavar="DIR|phantom:COUNT@SEED", help="True masks: a folder, or drawn phantoms.")
@click.option(
    "--boxes", metavar="CSV", type=click.Path(path_type=Path), help="True boxes, as ChestX-ray14 has them."
)
@click.option("--images", metavar="DIR", type=click.Path(path_type=Path), help="The pictures of --boxes.")
@click.option("--encoder", "encoder_name", required=True, metavar="DIR|NAME", help="Whose maps are measured.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help="A localizer to measure, each a row (repeat; default: all that need nothing but the encoder).",
)
@click.option(
    "--segmenter",
    "segmenters",
    multiple=True,
    metavar="DIR",
    help="What `train-segmenter` made, a row as well (repeat).",
)
@click.option(
    "--refine",
    default=None,
    metavar="R",
    help="What follows the edges of masks (default: as localize has it).",
)
@click.option("--structure", "structures", multiple=True, metavar="NAME", help="Only this one (repeat).")
@click.option("--allow-seen", is_flag=True, help="Also measure on people whom the encoder was trained on.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of all that is drawn.",
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
    """Measure where localizers see findings against true masks or boxes, beside baselines.

    Pointing game, IoU, Dice and normalised surface distance per structure, with 95 % intervals over people.
    A place may be off by 2 % of the picture's longer side. A structure that is a finding of the vocabulary is
    asked for by the finding's name, any other by its own.
    """
    import json
    import sys
    import time
    from functools import partial

    from corpus.annotations import open_marks
    from corpus.progress import counting_bars
    from corpus.records import Problem
    from corpus.settings import settings
    from trainer.models.registry import find_encoder

    # The cheap things that can be wrong are found before torch is imported.
    folder = find_encoder(encoder_name)
    problems: list[Problem] = []
    marks = open_marks(masks, boxes, images, problems.append)

    from retrieval.localize.evaluation.evaluate import measure_localizers, record
    from retrieval.localize.evaluation.localizers import localizers_of, row_names, segmenter_rows
    from retrieval.localize.refine.refiner import open_refiner
    from trainer.runtime.encoder import Encoder
    from trainer.runtime.training_overlap import has_seen

    device = device or settings().device
    refiner = open_refiner(refine, device)
    learned = segmenter_rows(segmenters, device, refiner)
    encoder = Encoder.load(folder, device)
    localizers = {**localizers_of(encoder, row_names(methods), refiner), **learned}
    began = time.monotonic()
    with counting_bars() as on_progress:
        measured = measure_localizers(
            marks,
            localizers,
            structures=structures or None,
            seen=partial(has_seen, encoder.record),
            allow_seen=allow_seen,
            seed=seed,
            on_progress=on_progress,
        )
    measured.problems[:0] = problems
    told = {"name": encoder.name, "fingerprint": encoder.fingerprint}
    by = refiner.name if refiner else "none"
    made = record(measured, list(localizers), told, by, seed, time.monotonic() - began)
    if as_json:
        click.echo(json.dumps(made, indent=2, allow_nan=False))
    else:
        _print_tables(made)
    failed = _report(made)
    if strict and failed:
        sys.exit(1)


def _print_tables(made: dict[str, Any]) -> None:
    """Print one table a structure: a row a method with its intervals, baselines below."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from retrieval.localize.evaluation.evaluate import METRICS
    from retrieval.localize.evaluation.intervals import show_mean

    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    for entry in made["structures"]:
        table = Table(
            "",
            *METRICS,
            title=f"{entry['structure']} (asked as {entry['phrase']!r}), {entry['questions']} marks",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for row in entry["rows"]:
            cells = [show_mean(row[metric]) for metric in METRICS]
            table.add_row(row["method"].replace("_", " "), *cells, style="dim" if row["baseline"] else None)
        console.print(table)
    percent = 100 * made["tolerance"]
    console.print(
        f"{made['pictures']} pictures of {made['subjects']} people; "
        f"masks refined by {made['refined_by']}; 95 % intervals over people "
        f"({made['bootstrap_draws']} draws, seed {made['seed']}); a place may be off by {percent:.0f} % of "
        f"the longer side; {made['seconds']:.0f} s"
    )


def _report(made: dict[str, Any]) -> int:
    """Say on stderr what could not be measured; return how many items failed."""
    counts = ", ".join(f"{count} {state}" for state, count in made["left_out"].items() if count)
    if counts:
        click.echo(f"left out: {counts}", err=True)
    for failure in made["failures"][:10]:
        click.echo(f"  {failure['item_id']}: {failure['reason']}", err=True)
    if len(made["failures"]) > 10:
        click.echo(f"  … and {len(made['failures']) - 10} more; --json lists all", err=True)
    return int(made["left_out"]["failed"])
