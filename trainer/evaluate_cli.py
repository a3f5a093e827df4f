"""`similarity evaluate`: an encoder beside its baselines, as a table or as JSON."""

from pathlib import Path
from typing import Any

import click

_BASELINES = {"random": "random", "constant": "constant", "normal_abnormal": "normal or not"}
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
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap and random baselines.")
@click.option("--device", default=None, help="Where the encoder runs: auto, cpu, cuda, …")
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
    seed: int,
    device: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Measure an encoder on people it has never seen, beside its baselines.

    Each query is answered from the gallery; an answer is right where it shares a finding with the query, or
    both are normal. Lift tells whether findings are told apart: a constant answer and a perfect
    normal/abnormal classifier have none.

    \b
    similarity evaluate --encoder runs/real --queries nih-chestxray14:PATH --gallery openi:PATH
    """
    import json
    import sys

    from corpus.settings import settings
    from corpus.sources import open_source
    from corpus.truth import read_truth
    from trainer.evaluate import evaluate as measure
    from trainer.registry import find_encoder

    # The cheap things that can be wrong are found before torch is imported.
    if seed < 0:
        raise click.BadParameter("a seed is 0 or more", param_hint="--seed")
    folder = find_encoder(encoder_name)
    asked, held = open_source(queries), open_source(gallery)
    table = None if truth is None else read_truth(truth)

    from trainer.encoder import Encoder

    with _progress() as on_progress:
        record = measure(
            Encoder.load(folder, device or settings().device),
            asked,
            held,
            query_kind=query_kind,  # type: ignore[arg-type]  # click holds it to the three words
            gallery_kind=gallery_kind,  # type: ignore[arg-type]
            truth=table,
            split=split,  # type: ignore[arg-type]
            allow_seen=allow_seen,
            seed=seed,
            on_progress=on_progress,
        )
    if as_json:
        click.echo(json.dumps(record, indent=2, allow_nan=False))
    else:
        _print_tables(record)
    failed = _report_problems(record)
    if strict and failed:
        sys.exit(1)


def _progress() -> Any:
    """Return a context that gives a progress callback; a bar on stderr, nothing when that is no terminal."""
    from collections.abc import Iterator
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from trainer.gallery import Progress as Callback

    @contextmanager
    def bars() -> Iterator[Callback]:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as shown:
            running: list[Any] = []

            def advance(doing: str, done: int, total: int) -> None:
                if not running or running[-1][0] != doing or shown.tasks[running[-1][1]].completed > done:
                    running.append((doing, shown.add_task(doing, total=total)))
                shown.update(running[-1][1], completed=done)

            yield advance

    return bars()


def _report_problems(record: dict[str, Any]) -> int:
    """Count on stderr what could not be scored; return how many items failed."""
    for role in ("queries", "gallery"):
        side = record[role]
        counts = ", ".join(
            f"{side[state]} {state}" for state in ("failed", "skipped", "missing", "dropped") if side[state]
        )
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


def _print_tables(record: dict[str, Any]) -> None:
    """Print the encoder's row, its intervals and the baselines; then the findings; then what chance is."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from trainer.metrics import PRECISION_AT, RECALL_AT
    from trainer.scoring import chance

    console = Console()
    asked, held = record["queries"], record["gallery"]
    console.print(
        f"{asked['items']} {asked['kind']}s of {asked['subjects']} people ({asked['source']}) → "
        f"{held['items']} {held['kind']}s ({held['source']}), split {record['split']}; "
        f"findings by the {asked['labels']} for queries, by the {held['labels']} for the gallery",
        highlight=False,
    )
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
    console.print(table)
    headings = ("finding", "queries", "gallery", "P@5", "lift@5", "95 % of lift", "in macro")
    findings = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in record["per_finding"]:
        counted = "yes" if row["in_macro"] else ""
        shown = [_show(row[name]) for name in ("precision_at_5", "lift_at_5", "ci95")]
        findings.add_row(row["finding"], str(row["queries"]), str(row["gallery"]), *shown, counted)
    console.print(findings)
    console.print(chance(record), highlight=False)
    console.print(
        f"Intervals: bootstrap over people, {record['bootstrap_draws']} draws, seed {record['seed']}.",
        highlight=False,
    )


def _show(value: float | list[float] | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.2f} … {value[1]:.2f}"
    return f"{value:.3f}"
