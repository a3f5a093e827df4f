"""`similarity corpus`: inspect a source, label and de-identify its reports, draw counterfactuals."""

from __future__ import annotations

from typing import Any

import click

from corpus.notices import one_line
from similarity.cli.console import note, plain_table, print_json
from similarity.cli.options import SourceOptions, source_options, table_options
from similarity.progress import progress_bars

SOURCE_HELP = (
    "SOURCE is KIND:PATH: covid-chestxray:DIR, nih-chestxray14:DIR, openi:DIR, chexpert:DIR, mimic-cxr:DIR, "
    "dicom:DIR, manifest:TABLE, or phantom:COUNT[@SEED]."
)


@click.group()
def corpus() -> None:
    """Inspect a source: its studies, its reports, the findings in them."""


@corpus.command(epilog=SOURCE_HELP)
@click.argument("source")
@source_options
@click.option("--read", is_flag=True, help="Also decode every image and list those that cannot be read.")
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
    """Count the studies, images, reports, findings and problems of SOURCE."""
    from corpus import inspection

    opened = options.open(source)
    with progress_bars() as on_progress:
        counted = inspection.inspect(opened, read=read, on_progress=on_progress)
    counted["notices"] = options.notices.as_json()
    if as_json:
        print_json(counted)
    else:
        _print_inspection(counted)
    _note_problems(counted["problems"])
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
@click.option(
    "--json", "as_json", is_flag=True, help="Print the scores as one JSON object instead of the labels."
)
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
    """Label the findings of each report of SOURCE: one JSON object a line."""
    from pathlib import Path

    from corpus.findings import Statuses, status_lists
    from corpus.inspection import summarize
    from corpus.language.detection import ReportLanguages
    from corpus.language.labeler import label_report
    from corpus.language.metamap import read_metamap
    from corpus.records import Problem
    from corpus.truth import read_truth, score_labels

    if as_json and score is None:
        raise click.UsageError("--json prints the score: it needs --score FILE")
    opened = options.open(source)
    truth = None if score is None else read_truth(Path(score))  # before the work: it may be malformed
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
                "findings": status_lists(found),
                "language": study.report.language,
                "findings_read": read is not None or study.report.findings_read,
            }
            print_json(line)
    unread = languages.warning() if read is None else None
    if unread is not None:
        note(unread)
    if read is not None:
        for complaint in read.bad_lines:
            note(f"metamap: {complaint}")
        read.require_named(labels)
    if truth is not None:
        for row in truth.bad_rows:
            note(f"truth: {row}")
        measured = score_labels(labels, truth, at_least=at_least)
        if as_json:
            print_json(measured)
        else:
            _print_score(measured)
    counted = summarize(problems)
    _note_problems(counted)
    if strict and counted["failed"]["count"]:
        context.exit(1)


@corpus.command(epilog=SOURCE_HELP)
@click.argument("source")
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False), help="Table to write: .parquet, .csv or .jsonl."
)
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
    """Write the table of the distinct sentences of SOURCE's reports, with the findings of each.

    The columns are sentence, studies (the number with it) and one a finding: present, absent, uncertain or
    unmentioned. The extension of --out decides the format.
    """
    from pathlib import Path

    from corpus.inspection import summarize
    from corpus.language.labeler import LABELER_VERSION
    from corpus.language.sentence_table import require_writable, tabulate_sentences, write_table
    from corpus.records import Problem

    require_writable(Path(out))  # before the work
    opened = options.open(source)
    problems: list[Problem] = []
    with progress_bars() as on_progress:
        table = tabulate_sentences(opened.studies(problems.append), on_progress=on_progress)
    write_table(table.frame, Path(out), {"source": opened.name, "labeler_version": LABELER_VERSION})
    counted = summarize(problems)
    counts = {"reports": table.reports, "occurrences": table.occurrences, "sentences": table.frame.height}
    if as_json:
        written = {"source": opened.name, "file": out, "labeler_version": LABELER_VERSION, **counts}
        print_json({**written, "problems": counted, "notices": options.notices.as_json()})
    else:
        click.echo(out)
        note(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    _note_problems(counted)
    if strict and counted["failed"]["count"]:
        context.exit(1)


@corpus.command(epilog=SOURCE_HELP)
@click.argument("source")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="A new folder.")
@click.option(
    "--per-film", type=click.IntRange(min=1), default=1, show_default=True, help="Studies from each image."
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="train",
    show_default=True,
    help="Subjects of this split.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the lesions.")
@table_options
def counterfactual(
    source: str, out: str, per_film: int, split: str, seed: int, options: SourceOptions
) -> None:
    """Draw phantom lesions into normal radiographs of SOURCE; write images, reports and masks.

    The folder is a manifest to train on (manifest:OUT/manifest.csv) and ground truth for
    evaluate-localization (--masks OUT).
    """
    from pathlib import Path

    from corpus.counterfactual.draw import normal_radiographs
    from corpus.counterfactual.folder import write_counterfactuals
    from corpus.records import Problem
    from corpus.splits import Split

    chosen: Split | None = None if split == "all" else split  # type: ignore[assignment]  # click checks it
    problems: list[Problem] = []
    radiographs = normal_radiographs(options.open(source), chosen, problems.append)
    written = write_counterfactuals(radiographs, Path(out), per_film=per_film, seed=seed)
    click.echo(
        f"{written.studies} images drawn from {written.radiographs} subjects', {written.masks} masks: {out}"
    )
    if problems:
        note(f"{len(problems)} images skipped: no two clear lungs were found")


@corpus.command(epilog=SOURCE_HELP)
@click.argument("source")
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def deidentify(source: str, options: SourceOptions, as_json: bool) -> None:
    """List identifying text that is taken out of SOURCE's reports before they are indexed, with its context.

    The listing contains that text: protect it as you protect the reports. Rules find names by a title, a
    label or a degree beside them: check reports with names that stand alone.
    """
    from corpus.language.deidentify import removed_identifiers
    from corpus.records import Problem

    problems: list[Problem] = []
    opened = options.open(source)
    read = touched = 0
    found = []
    for study in opened.studies(problems.append):
        read += study.report is not None
        spans = list(removed_identifiers(study))
        touched += bool(spans)
        found += spans
    if as_json:
        spans_json = [span.as_json() for span in found]
        print_json({"source": opened.name, "reports": read, "touched": touched, "taken": spans_json})
        return
    for span in found:
        around = f"{span.before}[{span.text}]{span.after}"
        click.echo(f"{span.kind:<11}{one_line(span.report_id)}  {one_line(around)}")
    note(f"{len(found):,} taken out of {touched:,} of {read:,} reports")


def _note_problems(problems: dict[str, Any]) -> None:
    """Print the number of problems by state on stderr."""
    counts = [f"{counted['count']:,} {state}" for state, counted in problems.items() if counted["count"]]
    if counts:
        note(", ".join(counts))


def _print_inspection(counted: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    facts = [(name, counted[name]) for name in ("studies", "subjects", "images", "reports", "pairs")]
    if counted["decoded"] is not None:
        facts.append(("decoded", counted["decoded"]))
    console.print(plain_table(counted["source"], ("", "count"), [(name, f"{n:,}") for name, n in facts]))
    near = counted["near_equal_ids"]
    if near["count"]:
        groups = "; ".join(one_line(", ".join(group)) for group in near["examples"])
        console.print(Text(f"patient ids that may be one patient's: {near['count']:,} groups ({groups})"))
    if near["by_leading_zeros"]:
        console.print(
            Text("SIMILARITY_MATCH_PADDED_PATIENT_IDS=true matches those that differ by leading zeros")
        )
    for name in ("views", "modalities", "sexes", "diagnoses", "attributes"):
        if counted[name]:
            values = ", ".join(f"{value} {n:,}" for value, n in list(counted[name].items())[:12])
            console.print(Text(f"{name}: {one_line(values)}"))
    languages = counted["languages"]
    if languages["by_language"]:
        numbers = ", ".join(f"{language} {n:,}" for language, n in languages["by_language"].items())
        count = languages["findings_unread"]
        unread = f"; findings not read in {count:,}" if count else ""
        console.print(Text(f"languages of the reports: {numbers}{unread}"))
    for name, low, high in (("ages", "min", "max"), ("dates", "first", "last")):
        span = counted[name]
        if span["known"]:
            console.print(Text(f"{name}: {span['known']:,} known, {span[low]} to {span[high]}"))
    if counted["findings"]:
        status_lists = ("present", "absent", "uncertain")
        rows = [(name, *(f"{n[side]:,}" for side in status_lists)) for name, n in counted["findings"].items()]
        console.print(plain_table("findings", ("finding", *status_lists), rows))
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
    Console(stderr=True, highlight=False).print(plain_table(title, columns, rows))
