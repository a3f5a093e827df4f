"""`similarity evaluate`: an encoder beside its baselines, as a table or as JSON."""

from pathlib import Path
from typing import Any

import click

from similarity.cli.source_options import SourceOptions, table_options

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
@click.option("--queries", required=True, metavar="SOURCE", help="Where the queries come from.")
@click.option("--gallery", required=True, metavar="SOURCE", help="Where the answers come from.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Table of true findings; scores the side whose studies it names.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="test",
    show_default=True,
    help="Whose items: subjects of this split.",
)
@click.option("--allow-seen", is_flag=True, help="Also score people whom the encoder was trained on.")
@click.option("--query-kind", type=_KINDS, default="auto", help="What to ask with (auto: images first).")
@click.option(
    "--gallery-kind", type=_KINDS, default="auto", help="What to answer with (auto: reports first)."
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
    help="Another encoder, compared on the same queries by a paired bootstrap over people.",
)
@click.option(
    "--groups", is_flag=True, help="Show every view, sex and age group, too (--json has them always)."
)
@click.option("--zero-shot", is_flag=True, help="Classify the pictures by prompts, too.")
@click.option(
    "--probe", is_flag=True, help="Probe the pictures, too: regressions learned on the train split's."
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Of the bootstrap, the random baselines and --per-class.",
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
    """Measure an encoder on people it has never seen, beside its baselines.

    Each query is answered from the gallery; an answer is right where it shares a finding with the query, or
    both are normal. Lift tells whether findings are told apart: a constant answer and a perfect
    normal/abnormal classifier have none.

    \b
    similarity evaluate --encoder runs/real --queries nih-chestxray14:PATH --gallery openi:PATH
    similarity evaluate --encoder A --against B --queries SOURCE --gallery SOURCE
    """
    import json
    import sys

    from corpus.progress import counting_bars
    from corpus.settings import settings
    from corpus.truth import read_truth
    from trainer.evaluation.evaluate import check_probe_split
    from trainer.evaluation.evaluate import evaluate as measure
    from trainer.models.registry import find_encoder

    # The cheap things that can be wrong are found before torch is imported.
    if seed < 0:
        raise click.BadParameter("a seed is 0 or more", param_hint="--seed")
    if probe:
        check_probe_split(split)  # type: ignore[arg-type]  # click holds it to the four words
    folder = find_encoder(encoder_name)
    other = None if against is None else find_encoder(against)
    asked, held = options.open(queries), options.open(gallery)
    table = None if truth is None else read_truth(truth)

    from trainer.runtime.encoder import Encoder

    device = device or settings().device
    with counting_bars() as on_progress:
        record = measure(
            Encoder.load(folder, device),
            asked,
            held,
            query_kind=query_kind,  # type: ignore[arg-type]  # click holds it to the three words
            gallery_kind=gallery_kind,  # type: ignore[arg-type]
            truth=table,
            split=split,  # type: ignore[arg-type]
            allow_seen=allow_seen,
            per_class=per_class,
            against=None if other is None else Encoder.load(other, device),
            zero_shot=zero_shot,
            probe=probe,
            seed=seed,
            on_progress=on_progress,
        )
    if as_json:
        click.echo(json.dumps(record, indent=2, allow_nan=False))
    else:
        _print_tables(record, groups)
    failed = _report_problems(record)
    if strict and failed:
        sys.exit(1)


def _report_problems(record: dict[str, Any]) -> int:
    """Count on stderr what could not be scored; return how many items failed."""
    for role in ("queries", "gallery"):
        side = record[role]
        states = {"failed": "failed", "skipped": "skipped", "missing": "missing", "dropped": "dropped",
                  "not_drawn": "not drawn"}  # fmt: skip
        counts = ", ".join(f"{side[state]} {told}" for state, told in states.items() if side[state])
        if counts:
            click.echo(f"{role}: {counts}", err=True)
        for failure in side["failures"][:10]:
            click.echo(f"  {failure['item_id']}: {failure['reason']}", err=True)
        if len(side["failures"]) > 10:
            click.echo(f"  … and {len(side['failures']) - 10} more; --json lists all", err=True)
    bad_rows = [] if record["truth"] is None else record["truth"]["bad_rows"]
    if bad_rows:
        click.echo(f"truth table: {len(bad_rows)} rows set aside, the first: {bad_rows[0]}", err=True)
    if record["seen_subjects"]:
        click.echo(
            f"{record['seen_subjects']} of these people were in the encoder's training: "
            "these numbers are no measure of it",
            err=True,
        )
    return int(record["queries"]["failed"] + record["gallery"]["failed"])


def _print_tables(record: dict[str, Any], groups: bool) -> None:
    """Print the encoder beside the baselines, the findings, what chance is, and what else was asked for."""
    from rich.console import Console

    from trainer.evaluation.scoring import chance

    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False)

    asked, held = record["queries"], record["gallery"]
    say(
        f"{asked['items']} {asked['kind']}s of {asked['subjects']} people ({asked['source']}) → "
        f"{held['items']} {held['kind']}s ({held['source']}), split {record['split']}; "
        f"findings by the {asked['labels']} for queries, by the {held['labels']} for the gallery"
    )
    if record["per_class"]:
        say(_tell_balance(record["per_class"]))
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
        say(f"Learned from {probe['train_pictures']} pictures, damping {probe['strength']:g}.")
    say(f"Intervals: bootstrap over people, {record['bootstrap_draws']} draws, seed {record['seed']}.")


def _tell_balance(balance: dict[str, Any]) -> str:
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
    from rich import box
    from rich.table import Table

    from trainer.evaluation.metrics import PRECISION_AT, RECALL_AT

    recalls = RECALL_AT if record["recall_at"] else ()

    def cells(row: dict[str, Any]) -> list[Any]:
        values = [*row["precision_at"].values(), row["lift_at_5"]["macro"], row["ndcg_at_10"]]
        return values + [row["recall_at"][str(k)] for k in recalls]

    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("")
    for name in (*(f"P@{k}" for k in PRECISION_AT), "lift@5", "nDCG@10", *(f"R@{k}" for k in recalls)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(record["encoder"]["name"], *map(_show, cells(record)), style="bold")
    for end, name in enumerate(("95 % from", "to")):
        bounds = [None if bound is None else bound[end] for bound in cells(record["ci95"])]
        table.add_row(f"{name:>11}", *map(_show, bounds))
    for name, row in record["baselines"].items():
        table.add_row(_BASELINES[name], *map(_show, cells(row)))
    return table


def _findings_table(rows: list[dict[str, Any]]) -> Any:
    table = _table("", "finding", "queries", "gallery", "P@5", "lift@5", "95 % of lift", "in macro")
    for row in rows:
        counted = "yes" if row["in_macro"] else ""
        shown = [_show(row[name]) for name in ("precision_at_5", "lift_at_5", "ci95")]
        table.add_row(row["finding"], str(row["queries"]), str(row["gallery"]), *shown, counted)
    return table


def _groups_table(rows: list[dict[str, Any]]) -> Any:
    table = _table("Groups of queries", "", "", "queries", *_METRICS.values(), "95 % of lift")
    for row in rows:
        shown = [_show(row[name]) for name in _METRICS] + [_show(row["ci95"]["lift_at_5"])]
        table.add_row(row["by"], row["group"], str(row["queries"]), *shown)
    return table


def _against_table(record: dict[str, Any]) -> Any:
    ours, theirs = record["encoder"]["name"], record["against"]["encoder"]["name"]
    if ours == theirs:
        theirs = f"{theirs} (against)"
    title = "The same queries, paired"
    table = _table(title, "", ours, theirs, "difference", "95 %", "better in")
    for name, told in record["against"]["metrics"].items():
        share = "–" if told["encoder_better"] is None else f"{told['encoder_better']:.1%}"
        shown = [_show(told[key]) for key in ("encoder", "against", "difference", "ci95")]
        table.add_row(_METRICS[name], *shown, share)
    return table


def _print_zero_shot(zero_shot: dict[str, Any], show: Any, say: Any) -> None:
    show(_classes_table("Zero-shot, by affirmed prompts", zero_shot["affirmed"]))
    contrasted = zero_shot["contrasted"]
    say(
        f"By affirmed less denied prompts: mean AUROC {_show(contrasted['auroc']['macro'])}, "
        f"among abnormal pictures {_show(contrasted['auroc_abnormal']['macro'])}."
    )
    single = zero_shot["single_finding"]
    if single is None:
        say("No two findings are each the only one of ten pictures, so there is no accuracy.")
        return
    say(
        f"Which of {len(single['classes'])} findings, over {single['pictures']} pictures that show one only: "
        f"accuracy {_show(single['accuracy'])} ({_show(single['accuracy_ci95'])}; always the commonest "
        f"{_show(single['largest_class'])}), balanced {_show(single['balanced_accuracy'])} "
        f"({_show(single['balanced_accuracy_ci95'])})."
    )


def _classes_table(title: str, scores: dict[str, Any]) -> Any:
    """AUROC of each finding: against absent or normal pictures, and among abnormal ones."""
    table = _table(title, "finding", "shown", "AUROC", "95 %", "among abnormal", "95 %")
    ways = ("auroc", "auroc_abnormal")
    for row in scores["per_finding"]:
        shown = [_show(row[name]) for way in ways for name in (way, f"{way}_ci95")]
        table.add_row(row["finding"], str(row["present"]), *shown)
    means = [_show(scores[way][key]) for way in ways for key in ("macro", "ci95")]
    table.add_row("mean (ten or more)", "", *means, style="bold")
    return table


def _table(title: str, *headings: str) -> Any:
    from rich import box
    from rich.table import Table

    return Table(*headings, title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _show(value: float | list[float] | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.2f} … {value[1]:.2f}"
    return f"{value:.3f}"
