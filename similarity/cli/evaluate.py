"""`similarity evaluate`: an encoder beside its baselines, as a table or as JSON."""

from pathlib import Path
from typing import Any

import click

from similarity.cli.console import note, print_json, ruled_table, show_number
from similarity.cli.options import SourceOptions, table_options
from similarity.cli.resources import open_encoder
from similarity.progress import progress_bars

_BASELINES = {"random": "random", "constant": "constant", "normal_abnormal": "normal or not"}
_METRICS = {
    "precision_at_1": "P@1",
    "precision_at_5": "P@5",
    "lift_at_5": "lift@5",
    "ndcg_at_10": "nDCG@10",
}
_KINDS = click.Choice(["auto", "image", "report"])


@click.command()
@click.option(
    "--encoder", "encoder_name", required=True, metavar="DIR|NAME", help="Encoder folder, or its name."
)
@click.option("--queries", required=True, metavar="SOURCE", help="Source of the queries.")
@click.option("--gallery", required=True, metavar="SOURCE", help="Source of the gallery.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Table of ground-truth findings; replaces those of the studies in it.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="test",
    show_default=True,
    help="Subjects of this split.",
)
@click.option("--allow-seen", is_flag=True, help="Also score subjects of the encoder's training.")
@click.option("--query-kind", type=_KINDS, default="auto", help="Kind of the queries (auto: images first).")
@click.option(
    "--gallery-kind", type=_KINDS, default="auto", help="Kind of the gallery items (auto: reports first)."
)
@click.option(
    "--per-class",
    type=click.IntRange(min=1),
    metavar="N",
    help="Balance both sides: N items of each class that has them, drawn by the seed. "
    "A class is exactly one finding, or normal.",
)
@click.option(
    "--against",
    metavar="DIR|NAME",
    help="Another encoder, compared on the same queries by a paired bootstrap over subjects.",
)
@click.option("--groups", is_flag=True, help="Also show each view, sex and age group (always in --json).")
@click.option("--zero-shot", is_flag=True, help="Also classify the images by prompts.")
@click.option("--probe", is_flag=True, help="Also fit a linear probe on the train split's images.")
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the bootstrap, the random baselines and --per-class.",
)
@click.option("--device", default=None, help="Where the encoder runs: auto, cpu, cuda, …")
@table_options
@click.option("--strict", is_flag=True, help="Exit 1 if any item failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def evaluate(
    encoder_name: str,
    queries: str,
    gallery: str,
    truth: Path | None,
    split: str,
    allow_seen: bool,
    query_kind: str,
    gallery_kind: str,
    per_class: int | None,
    against: str | None,
    groups: bool,
    zero_shot: bool,
    probe: bool,
    seed: int,
    device: str | None,
    options: SourceOptions,
    strict: bool,
    as_json: bool,
) -> None:
    """Measure an encoder on held-out subjects, beside its baselines.

    Each query ranks the gallery; a hit is relevant if it shares a finding with the query, or both are normal.
    Lift measures whether findings are distinguished: a constant answer and a perfect normal/abnormal
    classifier have a lift of 0.

    \b
    similarity evaluate --encoder runs/real --queries nih-chestxray14:PATH --gallery openi:PATH
    similarity evaluate --encoder A --against B --queries SOURCE --gallery SOURCE
    """
    import sys

    from corpus.truth import read_truth
    from trainer.evaluation.evaluate import check_probe_split
    from trainer.evaluation.evaluate import evaluate as measure
    from trainer.models.resolve import resolve_encoder

    # Cheap checks come before torch is imported.
    if seed < 0:
        raise click.BadParameter("a seed is 0 or more", param_hint="--seed")
    if probe:
        check_probe_split(split)  # type: ignore[arg-type]  # click checks it
    for name in filter(None, (encoder_name, against)):
        resolve_encoder(name)
    sources = options.open(queries), options.open(gallery)
    table = None if truth is None else read_truth(truth)

    with progress_bars() as on_progress:
        record = measure(
            open_encoder(encoder_name, device),
            *sources,
            query_kind=query_kind,  # type: ignore[arg-type]  # click checks it
            gallery_kind=gallery_kind,  # type: ignore[arg-type]
            truth=table,
            split=split,  # type: ignore[arg-type]
            allow_seen=allow_seen,
            per_class=per_class,
            against=None if against is None else open_encoder(against, device),
            zero_shot=zero_shot,
            probe=probe,
            seed=seed,
            on_progress=on_progress,
        )
    if as_json:
        print_json(record, indent=2, allow_nan=False)
    else:
        _print_tables(record, groups)
    failed = _report_problems(record)
    if strict and failed:
        sys.exit(1)


def _report_problems(record: dict[str, Any]) -> int:
    """Print the items that were not scored on stderr; return the number that failed."""
    for role in ("queries", "gallery"):
        side = record[role]
        states = {"failed": "failed", "skipped": "skipped", "missing": "missing", "dropped": "dropped",
                  "not_drawn": "not drawn"}  # fmt: skip
        counts = ", ".join(f"{side[state]} {name}" for state, name in states.items() if side[state])
        if counts:
            note(f"{role}: {counts}")
        for failure in side["failures"][:10]:
            note(f"  {failure['item_id']}: {failure['reason']}")
        if len(side["failures"]) > 10:
            note(f"  … and {len(side['failures']) - 10} more; --json lists all")
    bad_rows = [] if record["truth"] is None else record["truth"]["bad_rows"]
    if bad_rows:
        note(f"truth table: {len(bad_rows)} rows set aside, the first: {bad_rows[0]}")
    if record["seen_subjects"]:
        note(
            f"training overlap: {record['seen_subjects']} of these subjects were in the encoder's training; "
            "the scores do not measure it"
        )
    return int(record["queries"]["failed"] + record["gallery"]["failed"])


def _print_tables(record: dict[str, Any], groups: bool) -> None:
    """Print the encoder beside the baselines, the findings, the level of chance, and what was requested."""
    from rich.console import Console

    from trainer.evaluation.scoring import chance

    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False)

    queries, gallery = record["queries"], record["gallery"]
    say(
        f"{queries['items']} {queries['kind']}s of {queries['subjects']} subjects ({queries['source']}) → "
        f"{gallery['items']} {gallery['kind']}s ({gallery['source']}), split {record['split']}; "
        f"findings by the {queries['labels']} for queries, by the {gallery['labels']} for the gallery"
    )
    if record["per_class"]:
        say(_balance_text(record["per_class"]))
    console.print(_scores_table(record))
    console.print(_findings_table(record["per_finding"]))
    say(chance(record))
    if groups:
        console.print(_groups_table(record["per_group"]))
    if record["against"]:
        console.print(_against_table(record))
    if record["zero_shot"]:
        _print_zero_shot(record["zero_shot"], console.print, say)
    if record["probe"]:
        probe = record["probe"]
        console.print(_classes_table("Linear probe", probe))
        say(f"Fitted on {probe['train_pictures']} images, L2 strength {probe['strength']:g}.")
    say(f"Intervals: bootstrap over subjects, {record['bootstrap_draws']} draws, seed {record['seed']}.")


def _balance_text(balance: dict[str, Any]) -> str:
    few = ", ".join(
        f"{row['finding']} ({row['queries']} and {row['gallery']})" for row in balance["left_out"]
    )
    return (
        f"Balanced: {balance['items']} of each class on either side, so P@K is class precision and chance "
        f"1 in {len(balance['classes'])}: {', '.join(balance['classes'])}."
        + (f" Too few queries or gallery items: {few}." if few else "")
    )


def _scores_table(record: dict[str, Any]) -> Any:
    """The encoder's row, its intervals and the baselines."""
    from trainer.evaluation.metrics import PRECISION_AT, RECALL_AT

    recalls = RECALL_AT if record["recall_at"] else ()

    def cells(row: dict[str, Any]) -> list[Any]:
        values = [*row["precision_at"].values(), row["lift_at_5"]["macro"], row["ndcg_at_10"]]
        return values + [row["recall_at"][str(k)] for k in recalls]

    table = ruled_table("", "")
    table.padding = (0, 0, 0, 0)
    for name in (*(f"P@{k}" for k in PRECISION_AT), "lift@5", "nDCG@10", *(f"R@{k}" for k in recalls)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(record["encoder"]["name"], *map(show_number, cells(record)), style="bold")
    for end, name in enumerate(("95 % from", "to")):
        bounds = [None if bound is None else bound[end] for bound in cells(record["ci95"])]
        table.add_row(f"{name:>11}", *map(show_number, bounds))
    for name, row in record["baselines"].items():
        table.add_row(_BASELINES[name], *map(show_number, cells(row)))
    return table


def _findings_table(rows: list[dict[str, Any]]) -> Any:
    table = ruled_table("", "finding", "queries", "gallery", "P@5", "lift@5", "95 % of lift", "in macro")
    for row in rows:
        counted = "yes" if row["in_macro"] else ""
        shown = [show_number(row[name]) for name in ("precision_at_5", "lift_at_5", "ci95")]
        table.add_row(row["finding"], str(row["queries"]), str(row["gallery"]), *shown, counted)
    return table


def _groups_table(rows: list[dict[str, Any]]) -> Any:
    table = ruled_table("Groups of queries", "", "", "queries", *_METRICS.values(), "95 % of lift")
    for row in rows:
        shown = [show_number(row[name]) for name in _METRICS] + [show_number(row["ci95"]["lift_at_5"])]
        table.add_row(row["by"], row["group"], str(row["queries"]), *shown)
    return table


def _against_table(record: dict[str, Any]) -> Any:
    ours, theirs = record["encoder"]["name"], record["against"]["encoder"]["name"]
    if ours == theirs:
        theirs = f"{theirs} (against)"
    title = "The same queries, paired"
    table = ruled_table(title, "", ours, theirs, "difference", "95 %", "better in")
    for name, metric in record["against"]["metrics"].items():
        share = "–" if metric["encoder_better"] is None else f"{metric['encoder_better']:.1%}"
        shown = [show_number(metric[key]) for key in ("encoder", "against", "difference", "ci95")]
        table.add_row(_METRICS[name], *shown, share)
    return table


def _print_zero_shot(zero_shot: dict[str, Any], show: Any, say: Any) -> None:
    show(_classes_table("Zero-shot, by affirmed prompts", zero_shot["affirmed"]))
    contrasted = zero_shot["contrasted"]
    say(
        f"By affirmed less denied prompts: mean AUROC {show_number(contrasted['auroc']['macro'])}, "
        f"among abnormal images {show_number(contrasted['auroc_abnormal']['macro'])}."
    )
    single = zero_shot["single_finding"]
    if single is None:
        say("No two findings have ten images that show them alone: no accuracy.")
        return
    say(
        f"Which of {len(single['classes'])} findings, over {single['pictures']} images that show one only: "
        f"accuracy {show_number(single['accuracy'])} ({show_number(single['accuracy_ci95'])}; "
        f"always the commonest {show_number(single['largest_class'])}), "
        f"balanced {show_number(single['balanced_accuracy'])} "
        f"({show_number(single['balanced_accuracy_ci95'])})."
    )


def _classes_table(title: str, scores: dict[str, Any]) -> Any:
    """AUROC of each finding: against absent or normal images, and among abnormal ones."""
    table = ruled_table(title, "finding", "shown", "AUROC", "95 %", "among abnormal", "95 %")
    ways = ("auroc", "auroc_abnormal")
    for row in scores["per_finding"]:
        shown = [show_number(row[name]) for way in ways for name in (way, f"{way}_ci95")]
        table.add_row(row["finding"], str(row["present"]), *shown)
    means = [show_number(scores[way][key]) for way in ways for key in ("macro", "ci95")]
    table.add_row("mean (ten or more)", "", *means, style="bold")
    return table
