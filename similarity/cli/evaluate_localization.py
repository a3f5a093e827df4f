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

A mask folder has masks.csv (image, mask, structure; subject_id if a subject has several images; view and sex
where they are known), images/ and masks/. Boxes are the NIH table, in pixels of the 1024 px originals; images
may be smaller. With the set's Data_Entry_2017*.csv beside them, views and sexes are compared, and images
labelled "No Finding" are the normal images; a mask folder lists its own as class "normal" in images.csv."""

_HEADINGS = {
    "pointing": "pointing",
    "dice": "Dice",
    "nsd": "NSD",
    "hit_iou_25": "IoU ≥ 0.25",
    "hit_iobb_25": "IoBB ≥ 0.25",
    "box_dice": "box Dice",
    "masked": "sensitivity",
    "specificity": "specificity",
    "side_right": "laterality",
}
_SHOWN_OF_GROUPS = ("pointing", "masked", "specificity")
_SHOWN_OF_BOXES = ("pointing", "hit_iou_25", "hit_iobb_25", "box_dice", "masked", "specificity")
_SHOWN_OF_MASKS = ("pointing", "dice", "nsd", "masked", "specificity", "side_right")
_HITS = tuple(f"hit_{kind}_{level}" for kind in ("iou", "iobb") for level in (10, 25, 50))


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
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default=None,
    help="Subjects of this split (default: test of --boxes, all of --masks).",
)
@click.option(
    "--normals",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Normal images on which specificity is measured, at most.",
)
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
    split: str | None,
    normals: int,
    allow_seen: bool,
    seed: int,
    device: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Measure localizers against ground-truth masks or boxes, beside image-agnostic baselines.

    Pointing-game accuracy, IoU, Dice and normalised surface distance (NSD) of each structure; hit rates of
    boxes at IoU and IoBB of 0.10, 0.25 and 0.50 (IoBB: intersection over the detected box, Wang et al. 2017)
    and their Dice; sensitivity and specificity of returning a mask. Each with 95 % intervals over subjects,
    per structure, over structures, and per view and sex. The tolerance is 2 % of the image's longer side. A
    structure that is a finding of the vocabulary is queried by the finding's name, any other by its own.

    Subjects of the encoder's training are refused in a split; of --split all they are excluded and counted.
    """
    import sys
    import time
    from functools import partial

    from corpus.annotations import open_annotations
    from corpus.normal_images import normal_images
    from corpus.records import Problem
    from corpus.settings import settings
    from trainer.models.resolve import resolve_encoder

    resolve_encoder(encoder_name)  # a wrong name is found before torch is imported
    problems: list[Problem] = []
    annotations = open_annotations(masks, boxes, images, problems.append)
    split = split or ("all" if boxes is None else "test")

    from retrieval.localize.evaluation.aggregation import record
    from retrieval.localize.evaluation.evaluate import measure_localizers
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
            split=split,  # type: ignore[arg-type]  # click checks it
            normals=normal_images(annotations, problems.append) if normals else (),
            most_normals=normals,
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
    """Print one table a structure, the means over structures, and groups; baselines below the methods."""
    from retrieval.localize.evaluation.intervals import show_mean

    console = wide_console()
    shown = _SHOWN_OF_BOXES if made["marks"] == "boxes" else _SHOWN_OF_MASKS
    lead = "box_dice" if made["marks"] == "boxes" else "dice"
    for entry in made["structures"]:
        title = f"{entry['structure']} (queried as {entry['phrase']!r}), {entry['questions']} annotations"
        table = ruled_table(title, "", *(_HEADINGS[metric] for metric in shown))
        for row in entry["rows"]:
            cells = [show_mean(row[metric]) for metric in shown]
            table.add_row(_name(row), *cells, style="dim" if row["baseline"] else None)
        console.print(table)
    over = f"Mean over {len(made['structures'])} structures"
    console.print(_macro_table(made, over, shown))
    hits = ruled_table(f"{over}: hit rates of boxes", "", *map(_hit_heading, _HITS), "false boxes")
    for row in made["macro"]:
        numbers = [_number(row[metric]) for metric in (*_HITS, "false_boxes")]
        hits.add_row(_name(row), *numbers, style="dim" if row["baseline"] else None)
    console.print(hits)
    _print_comparison(made, ("pointing", lead))
    if made["groups"]:
        console.print(_group_table(made, (*_SHOWN_OF_GROUPS, lead)))
    percent = 100 * made["tolerance"]
    console.print(
        f"{made['pictures']} images of {made['subjects']} subjects and {made['normal_images']} normal images "
        f"of {made['normal_subjects']} (split {made['split']}); "
        f"masks refined by {made['refined_by']}; 95 % intervals over subjects "
        f"({made['bootstrap_draws']} draws, seed {made['seed']}); tolerance {percent:.0f} % of "
        f"the longer side; {made['seconds']:.0f} s"
    )


def _macro_table(made: dict[str, Any], title: str, shown: tuple[str, ...]) -> Any:
    from retrieval.localize.evaluation.intervals import show_mean

    table = ruled_table(title, "", *(_HEADINGS[metric] for metric in shown))
    for row in made["macro"]:
        cells = [show_mean({"mean": row[metric], "ci95": row["ci95"][metric]}) for metric in shown]
        table.add_row(_name(row), *cells, style="dim" if row["baseline"] else None)
    return table


def _group_table(made: dict[str, Any], shown: tuple[str, ...]) -> Any:
    from retrieval.localize.evaluation.intervals import show_mean

    title = "Views and sexes, means over structures"
    table = ruled_table(title, "", "annotations", "", *(_HEADINGS[metric] for metric in shown))
    for group in made["groups"]:
        for row in group["rows"]:
            if row["method"] == "mean_mask" or not row["baseline"]:
                table.add_row(
                    f"{group['group']} {group['value']}",
                    str(group["questions"]),
                    _name(row),
                    *(show_mean(row[metric]) for metric in shown),
                    style="dim" if row["baseline"] else None,
                )
    return table


def _print_comparison(made: dict[str, Any], metrics: tuple[str, ...]) -> None:
    """Print for every method in how many structures it is above the mean mask."""
    count = len(made["structures"])
    for row in made["macro"]:
        if row["baseline"]:
            continue
        parts = []
        for metric in metrics:
            over = row["over_mean_mask"][metric]
            if over["mean"] is None or over["ci95"] is None:
                continue
            low, high = over["ci95"]
            parts.append(
                f"{_HEADINGS[metric]} {over['mean']:+.2f} ({low:+.2f} … {high:+.2f}), above in "
                f"{over['above']} of {count}, surely in {over['surely_above']}"
            )
        if parts:
            click.echo(f"{_name(row)} less mean mask: {'; '.join(parts)}")


def _name(row: dict[str, Any]) -> str:
    return str(row["method"]).replace("_", " ")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _hit_heading(metric: str) -> str:
    _, kind, level = metric.split("_")
    return f"{'IoU' if kind == 'iou' else 'IoBB'} ≥ 0.{level}"


def _report(made: dict[str, Any]) -> int:
    """Print the items that were not measured on stderr; return the number that failed."""
    counts = ", ".join(
        f"{count} {state.replace('_', ' ')}" for state, count in made["left_out"].items() if count
    )
    if counts:
        note(f"left out: {counts}")
    for failure in made["failures"][:10]:
        note(f"  {failure['item_id']}: {failure['reason']}")
    if len(made["failures"]) > 10:
        note(f"  … and {len(made['failures']) - 10} more; --json lists all")
    return int(made["left_out"]["failed"])
