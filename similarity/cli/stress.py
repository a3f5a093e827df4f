"""`similarity stress`: do the answers follow the film? Only click is imported until it runs."""

from typing import Any

import click

from similarity.cli.source_options import SourceOptions, table_options

EPILOG = """\b
Examples:
  similarity stress --encoder runs/phantom --limit 20
  similarity stress --encoder E --films nih-chestxray14:DIR --method gscorecam --json

Films are the normal frontal ones of SOURCE, one a person, of people whom the encoder has not seen; those in
which no two clear lungs are found are passed over."""


@click.command(epilog=EPILOG)
@click.option("--encoder", "encoder_name", required=True, metavar="DIR|NAME", help="What is put to the test.")
@click.option(
    "--films",
    default="phantom:300@101",
    show_default=True,
    metavar="SOURCE",
    help="Where the normal films come from.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="test",
    show_default=True,
    help="Whose films: people of this split.",
)
@click.option("--method", default=None, metavar="NAME", help="The localizer (default: as localize has it).")
@click.option(
    "--refine",
    default=None,
    metavar="R",
    help="What follows the edges of masks (default: as localize has it).",
)
@click.option("--limit", type=click.IntRange(min=1), default=40, show_default=True, help="Films at most.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of all that is drawn."
)
@click.option("--device", default=None, help="Where the encoder runs: auto, cpu, cuda, …")
@table_options
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def stress(
    encoder_name: str,
    films: str,
    split: str,
    method: str | None,
    refine: str | None,
    limit: int,
    seed: int,
    device: str | None,
    options: SourceOptions,
    as_json: bool,
) -> None:
    """Draw lesions into normal films, move, mirror and remove them: do map, mask, side and rank follow?

    Consolidation, effusion, nodule and pneumothorax are put into each film one at a time. Each check is a
    rate over films with its 95 % interval over people.
    """
    import json
    import time
    from functools import partial

    from corpus.counterfactual.draw import normal_films
    from corpus.progress import counting_bars
    from corpus.settings import settings
    from trainer.models.registry import find_encoder

    folder = find_encoder(encoder_name)
    source = options.open(films)

    from retrieval.localize.evaluation.localizers import localizers_of, row_names
    from retrieval.localize.evaluation.stress import Stress, as_record, stress_films
    from retrieval.localize.refine.refiner import open_refiner
    from retrieval.localize.specificity.calibration import method_for
    from trainer.runtime.encoder import Encoder
    from trainer.runtime.training_overlap import has_seen

    if method is not None:
        row_names([method])
    device = device or settings().device
    refiner, encoder = open_refiner(refine, device), Encoder.load(folder, device)
    name = method_for(encoder.fingerprint, method)
    began = time.monotonic()
    outcome = Stress()
    whose = None if split == "all" else split
    drawn = normal_films(
        source,
        whose,  # type: ignore[arg-type]  # click holds it to the words
        outcome.problems.append,
        leave_out=partial(has_seen, encoder.record),
    )
    with counting_bars() as on_progress:
        stress_films(
            drawn,
            localizers_of(encoder, [name], refiner)[name],
            encoder,
            outcome,
            limit=limit,
            seed=seed,
            on_progress=on_progress,
        )
    told = {"name": encoder.name, "fingerprint": encoder.fingerprint}
    by = refiner.name if refiner else "none"
    made = as_record(outcome, told, name, by, source.name, seed, time.monotonic() - began)
    if as_json:
        click.echo(json.dumps(made, indent=2, allow_nan=False))
    else:
        _print_table(made)


def _print_table(made: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from retrieval.localize.evaluation.intervals import show_mean

    findings = list(made["checks"][0]["findings"])
    headings = ("change", "check", "all findings", *(name.replace("_", " ") for name in findings))
    table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False)
    for check in made["checks"]:
        means = [check["all"], *(check["findings"][name] for name in findings)]
        table.add_row(check["change"], check["check"], *(show_mean(mean) for mean in means))
    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    console.print(table)
    console.print(
        f"{made['method']}, masks refined by {made['refined_by']}, "
        f"on {made['films']} films of {made['subjects']} people of {made['source']}; "
        f"95 % intervals over people ({made['bootstrap_draws']} draws, seed {made['seed']}); "
        f"{made['seconds']:.0f} s"
    )
