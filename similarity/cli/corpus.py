"""`similarity corpus`: look at a source, label its reports, tabulate their sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from corpus.printable import one_line
from similarity.cli.corpus_deidentify import deidentify
from similarity.cli.source_options import SourceOptions, source_options, table_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


SOURCE_HELP = (
    "SOURCE is KIND:PATH: covid-chestxray:DIR, nih-chestxray14:DIR, openi:DIR, chexpert:DIR, mimic-cxr:DIR, "
    "dicom:DIR, manifest:TABLE, or phantom:COUNT[@SEED]."
)


@click.group()
def corpus() -> None:
    """Look at a source: what it holds, what its reports say."""


corpus.add_command(deidentify)


@corpus.command(epilog=SOURCE_HELP)
@click.argument("source")
@source_options
@click.option("--read", is_flag=True, help="Decode every picture, too, and list what cannot be.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--strict", is_flag=True, help="Exit with 1 when any item failed.")
@click.pass_context
def inspect(
    context: click.Context,
    source: str,
    options: SourceOptions,
    read: bool,
    as_json: bool,
    strict: bool,
) -> None:
    """Count what SOURCE holds: studies, pictures, reports, findings, and every problem."""
    import json

    from corpus import inspection

    opened = options.open(source)
    with _Progress() as step:
        counted = inspection.inspect(opened, read=read, on_step=step)
    counted["notices"] = options.notices.as_json()
    if as_json:
        click.echo(json.dumps(counted))
    else:
        _print_inspection(counted)
    _tell_problems(counted["problems"])
    if strict and counted["problems"]["failed"]["count"]:
        context.exit(1)


@corpus.command(epilog=SOURCE_HELP)
@click.argument("source")
@source_options
@click.option(
    "--metamap",
    type=click.Path(),
    help="Take the labels from MetaMap's output (MMI or MetaMapLite JSON, a file or a folder of them).",
)
@click.option(
    "--score",
    type=click.Path(dir_okay=False),
    help="Compare with a table of gold findings (study_id or filename, a 0/1 column a finding).",
)
@click.option(
    "--at-least",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Average over the findings with so many positives in that table.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the score as one JSON object, not the labels.")
@click.option("--strict", is_flag=True, help="Exit with 1 when any item failed.")
@click.pass_context
def label(
    context: click.Context,
    source: str,
    options: SourceOptions,
    metamap: str | None,
    score: str | None,
    at_least: int,
    as_json: bool,
    strict: bool,
) -> None:
    """Print what each report of SOURCE says of each finding, one JSON object a line."""
    import json
    from pathlib import Path

    from corpus.findings import Statuses, sides
    from corpus.inspection import summarize
    from corpus.language.label_scores import score_labels
    from corpus.language.labeler import label_report
    from corpus.language.metamap import read_metamap
    from corpus.language.report_languages import ReportLanguages
    from corpus.records import Problem
    from corpus.truth import read_truth

    if as_json and score is None:
        raise click.UsageError("--json prints the score: it needs --score FILE")
    opened = options.open(source)
    truth = None if score is None else read_truth(Path(score))  # a wrong table is told before the work
    read = None if metamap is None else read_metamap(Path(metamap))
    problems: list[Problem] = []
    labels: dict[str, Statuses] = {}
    languages = ReportLanguages()
    for study in opened.studies(problems.append):
        if study.report is None:
            continue
        found = label_report(study.report) if read is None else read.of(study)
        languages.add(study.report)
        labels[study.study_id] = found
        if not as_json:
            line = {
                "report_id": study.report.item_id,
                "study_id": study.study_id,
                "findings": sides(found),
                "language": study.report.language,
                "findings_read": read is not None or study.report.findings_read,
            }
            click.echo(json.dumps(line))
    unread = languages.warning() if read is None else None
    if unread is not None:
        click.echo(unread, err=True)
    if read is not None:
        for complaint in read.bad_lines:
            click.echo(f"metamap: {complaint}", err=True)
        read.require_named(labels)
    if truth is not None:
        for row in truth.bad_rows:
            click.echo(f"truth: {row}", err=True)
        measured = score_labels(labels, truth, at_least=at_least)
        if as_json:
            click.echo(json.dumps(measured))
        else:
            _print_score(measured)
    counted = summarize(problems)
    _tell_problems(counted)
    if strict and counted["failed"]["count"]:
        context.exit(1)


@corpus.command(epilog=SOURCE_HELP)
@click.argument("source")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="Table to write; see above.")
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print counts as one JSON object.")
@click.option("--strict", is_flag=True, help="Exit with 1 when any item failed.")
@click.pass_context
def sentences(
    context: click.Context,
    source: str,
    out: str,
    options: SourceOptions,
    as_json: bool,
    strict: bool,
) -> None:
    """Write the table of sentences: each different one of SOURCE's reports, and what it says of each finding.

    The columns are sentence, studies (how many hold it) and one a finding: present, absent, uncertain or
    unmentioned. The table is .parquet, .csv or .jsonl by the name of --out.
    """
    import json
    from pathlib import Path

    from corpus.inspection import summarize
    from corpus.language.labeler import LABELER_VERSION
    from corpus.language.sentence_table import require_writable, tabulate_sentences, write_table
    from corpus.records import Problem

    require_writable(Path(out))  # told before the work
    opened = options.open(source)
    problems: list[Problem] = []
    with _Progress() as step:
        table = tabulate_sentences(opened.studies(problems.append), on_step=step)
    write_table(table.frame, Path(out), {"source": opened.name, "labeler_version": LABELER_VERSION})
    counted = summarize(problems)
    counts = {"reports": table.reports, "occurrences": table.occurrences, "sentences": table.frame.height}
    if as_json:
        told = {"source": opened.name, "file": out, "labeler_version": LABELER_VERSION, **counts}
        click.echo(json.dumps({**told, "problems": counted, "notices": options.notices.as_json()}))
    else:
        click.echo(out)
        click.echo(", ".join(f"{count:,} {name}" for name, count in counts.items()), err=True)
    _tell_problems(counted)
    if strict and counted["failed"]["count"]:
        context.exit(1)


@corpus.command(epilog=SOURCE_HELP)
@click.argument("source")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="A new folder.")
@click.option("--per-film", type=click.IntRange(min=1), default=1, show_default=True, help="Studies of each.")
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="train",
    show_default=True,
    help="Whose films: people of this split.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the lesions.")
@table_options
def counterfactual(
    source: str, out: str, per_film: int, split: str, seed: int, options: SourceOptions
) -> None:
    """Draw phantom lesions into the normal films of SOURCE, with reports and masks, into a folder.

    The folder is a manifest to train on (manifest:OUT/manifest.csv) and a truth for evaluate-localization
    (--masks OUT).
    """
    from pathlib import Path

    from corpus.counterfactual.draw import normal_films
    from corpus.counterfactual.folder import write_counterfactuals
    from corpus.records import Problem
    from corpus.splits import Split

    whose: Split | None = None if split == "all" else split  # type: ignore[assignment]  # click holds it to these
    problems: list[Problem] = []
    films = normal_films(options.open(source), whose, problems.append)
    written = write_counterfactuals(films, Path(out), per_film=per_film, seed=seed)
    click.echo(f"{written.studies} films drawn from {written.films} people's, {written.masks} masks: {out}")
    if problems:
        click.echo(f"{len(problems)} films passed over: nothing can be drawn into them", err=True)


def _tell_problems(problems: dict[str, Any]) -> None:
    """One line on stderr: how many items were left out, by state."""
    told = [f"{counted['count']:,} {state}" for state, counted in problems.items() if counted["count"]]
    if told:
        click.echo(", ".join(told), err=True)


class _Progress:
    """A running count on stderr, where that is a terminal."""

    def __enter__(self) -> Callable[[str, int], None]:
        from rich.console import Console
        from rich.status import Status

        console = Console(stderr=True)
        self._status: Status | None = None
        if console.is_terminal:
            self._status = Status("reading", console=console)
            self._status.start()
        return self._step

    def _step(self, what: str, done: int) -> None:
        if self._status is not None and done % 100 == 0:
            self._status.update(f"{done:,} {what}")

    def __exit__(self, *exception: object) -> None:
        if self._status is not None:
            self._status.stop()


def _print_inspection(counted: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    facts = [(name, counted[name]) for name in ("studies", "subjects", "images", "reports", "pairs")]
    if counted["decoded"] is not None:
        facts.append(("decoded", counted["decoded"]))
    _print_table(console, counted["source"], ("", "count"), [(name, f"{n:,}") for name, n in facts])
    near = counted["near_equal_ids"]
    if near["count"]:
        told = "; ".join(one_line(", ".join(group)) for group in near["examples"])
        console.print(Text(f"patient ids that may be one patient's: {near['count']:,} groups ({told})"))
    if near["by_leading_zeros"]:
        console.print(
            Text("SIMILARITY_MATCH_PADDED_PATIENT_IDS=true matches those that differ by leading zeros")
        )
    for name in ("views", "modalities", "sexes", "diagnoses", "attributes"):
        if counted[name]:
            told = ", ".join(f"{value} {n:,}" for value, n in list(counted[name].items())[:12])
            console.print(Text(f"{name}: {one_line(told)}"))
    spoken = counted["languages"]
    if spoken["by_language"]:
        told = ", ".join(f"{language} {n:,}" for language, n in spoken["by_language"].items())
        unread = f"; findings not read in {spoken['findings_unread']:,}" if spoken["findings_unread"] else ""
        console.print(Text(f"languages of the reports: {told}{unread}"))
    for name, low, high in (("ages", "min", "max"), ("dates", "first", "last")):
        told = counted[name]
        if told["known"]:
            console.print(Text(f"{name}: {told['known']:,} known, {told[low]} to {told[high]}"))
    if counted["findings"]:
        sides = ("present", "absent", "uncertain")
        rows = [(name, *(f"{n[side]:,}" for side in sides)) for name, n in counted["findings"].items()]
        _print_table(console, "findings", ("finding", *sides), rows)
    for state, problems in counted["problems"].items():
        for reason in problems["reasons"]:
            examples = ", ".join(one_line(item) for item in reason["examples"])
            why = one_line(reason["reason"])
            console.print(Text(f"{state} {reason['count']:,}: {why} ({examples})"))
        others = problems["count"] - sum(reason["count"] for reason in problems["reasons"])
        if others:
            console.print(Text(f"{state} {others:,} more, each for a rarer reason"))


def _print_score(measured: dict[str, Any]) -> None:
    from rich.console import Console

    def row(name: str, ratios: dict[str, float], positives: str) -> tuple[str, ...]:
        return (name, positives, *(f"{ratios[key]:.3f}" for key in ("precision", "recall", "f1")))

    rows = [row(name, found, f"{found['positives']:,}") for name, found in measured["findings"].items()]
    rows += [row(f"{kind} average", measured[kind], "") for kind in ("micro", "macro")]
    title = f"{measured['studies']:,} studies compared"
    columns = ("finding", "positives", "precision", "recall", "F1")
    _print_table(Console(stderr=True, highlight=False), title, columns, rows)


def _print_table(console: Console, title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    console.print(table)
