"""`similarity stress`: do answers follow lesions? Only click is imported until it runs."""

from typing import Any

import click

from similarity.cli.console import print_json, ruled_table, wide_console
from similarity.cli.options import SourceOptions, table_options
from similarity.cli.resources import open_encoder
from similarity.progress import progress_bars

EPILOG = """\b
Examples:
  similarity stress --encoder runs/phantom --limit 20
  similarity stress --encoder E --films nih-chestxray14:DIR --method gscorecam --json

Images are the normal frontal radiographs of SOURCE, one a subject, without subjects of the encoder's
training. Images without two clear lungs are skipped."""


@click.command(epilog=EPILOG)
@click.option("--encoder", "encoder_name", required=True, metavar="DIR|NAME", help="The encoder to test.")
@click.option(
    "--films",
    default="phantom:300@101",
    show_default=True,
    metavar="SOURCE",
    help="Source of the normal radiographs.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="test",
    show_default=True,
    help="Subjects of this split.",
)
@click.option("--method", default=None, metavar="NAME", help="Localizer (default: as `localize`).")
@click.option(
    "--refine",
    default=None,
    metavar="R",
    help="Mask refinement (default: as `localize`).",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=40, show_default=True, help="Maximum number of images."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed.")
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
    """Draw lesions into normal radiographs, move, mirror and remove them: do map, mask and rank follow?

    Consolidation, effusion, nodule and pneumothorax are drawn into each image one at a time. Each check is a
    rate over images with its 95 % interval over subjects.
    """
    import time
    from functools import partial

    from corpus.counterfactual.draw import normal_radiographs
    from corpus.settings import settings
    from trainer.models.resolve import resolve_encoder

    resolve_encoder(encoder_name)  # a wrong name is found before torch is imported
    source = options.open(films)

    from retrieval.localize.evaluation.stress import StressOutcomes, as_record, run_stress_test
    from retrieval.localize.localizer import method_localizers, method_names
    from retrieval.localize.refine.refiner import open_refiner
    from retrieval.localize.specificity.calibration import method_for
    from trainer.runtime.training_overlap import was_trained_on

    if method is not None:
        method_names([method])
    device = device or settings().device
    refiner, encoder = open_refiner(refine, device), open_encoder(encoder_name, device)
    name = method_for(encoder.fingerprint, method)
    began = time.monotonic()
    outcome = StressOutcomes()
    drawn = normal_radiographs(
        source,
        None if split == "all" else split,  # type: ignore[arg-type]  # click checks it
        outcome.problems.append,
        leave_out=partial(was_trained_on, encoder.record),
    )
    with progress_bars() as on_progress:
        run_stress_test(
            drawn,
            method_localizers(encoder, [name], refiner)[name],
            encoder,
            outcome,
            limit=limit,
            seed=seed,
            on_progress=on_progress,
        )
    tested = {"name": encoder.name, "fingerprint": encoder.fingerprint}
    by = refiner.name if refiner else "none"
    made = as_record(outcome, tested, name, by, source.name, seed, time.monotonic() - began)
    if as_json:
        print_json(made, indent=2, allow_nan=False)
    else:
        _print_table(made)


def _print_table(made: dict[str, Any]) -> None:
    from retrieval.localize.evaluation.intervals import show_mean

    findings = list(made["checks"][0]["findings"])
    headings = ("change", "check", "all findings", *(name.replace("_", " ") for name in findings))
    table = ruled_table("", *headings)
    for check in made["checks"]:
        means = [check["all"], *(check["findings"][name] for name in findings)]
        table.add_row(check["change"], check["check"], *(show_mean(mean) for mean in means))
    console = wide_console()
    console.print(table)
    console.print(
        f"{made['method']}, masks refined by {made['refined_by']}, "
        f"on {made['films']} images of {made['subjects']} subjects of {made['source']}; "
        f"95 % intervals over subjects ({made['bootstrap_draws']} draws, seed {made['seed']}); "
        f"{made['seconds']:.0f} s"
    )
