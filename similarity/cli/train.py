"""`similarity train`: train an encoder, or cross-validate a recipe. Only click is imported until it runs."""

from pathlib import Path
from typing import Any

import click

from similarity.cli.console import ruled_table
from similarity.cli.options import SourceOptions, table_options
from similarity.progress import progress_bars

LOSSES = ("semantic-matching", "dhn-nce", "infonce", "multi-positive-infonce")
TARGETS = ("findings", "concepts", "embedding")


@click.command()
@click.option("--corpus", "corpora", multiple=True, metavar="SOURCE", help="KIND:PATH (repeat).")
@click.option("--loss", type=click.Choice(LOSSES), help="The loss.  [semantic-matching]")
@click.option("--targets", type=click.Choice(TARGETS), help="What targets are made from.  [findings]")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run."
)
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="TOML file.")
@click.option("--arch", metavar="NAME|FILE", help="Architecture.  [tiny]")
@click.option("--image-weights", metavar="FILE|FOLDER|timm:NAME", help="Initial weights of the image tower.")
@click.option("--text-weights", metavar="FOLDER|NAME", help="Initial weights of the text tower.")
@click.option("--epochs", type=int, help="Passes over the images.")
@click.option("--batch-size", type=int, help="Images, and texts, a step.")
@click.option("--seed", type=int, help="Random seed.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@table_options
@click.option("--resume", is_flag=True, help="Resume the run in --out from its last checkpoint.")
@click.option("--folds", type=int, help="Cross-validate over this many subject folds instead.")
@click.option(
    "--queries", multiple=True, metavar="KIND", help="With --folds: query images of this source only."
)
@click.option(
    "--gallery", multiple=True, metavar="KIND", help="With --folds: gallery reports of this source only."
)
@click.option(
    "--truth",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --folds: table of ground-truth findings, for scoring only.",
)
def train(
    corpora: tuple[str, ...],
    loss: str | None,
    targets: str | None,
    out: Path,
    config_file: Path | None,
    arch: str | None,
    image_weights: str | None,
    text_weights: str | None,
    epochs: int | None,
    batch_size: int | None,
    seed: int | None,
    device: str,
    options: SourceOptions,
    resume: bool,
    folds: int | None,
    queries: tuple[str, ...],
    gallery: tuple[str, ...],
    truth: Path | None,
) -> None:
    """Train an encoder on any mix of sources: pairs, images without text, text without images.

    Writes checkpoints and curves into the run's folder and the encoder into its `encoder/`; prints that path.
    Options override the TOML file; the resolved `config.toml` of a run has every setting. A tenth of the
    subjects is held out for validation, a fifth for testing; neither is trained on.

    Several processes: `torchrun --nproc-per-node 4 --no-python similarity train …`, or `accelerate
    launch --no_python` likewise.

    With --folds the recipe is cross-validated instead: each fold of the subjects, test subjects excluded, is
    scored by an encoder trained on the others. Select models by this; use the test split once.
    """
    from trainer.train.config_file import read_config

    if resume and config_file is None and (out / "config.toml").is_file():
        config_file = out / "config.toml"
    config = read_config(
        config_file,
        {
            "corpus": list(corpora) or None,
            "loss.name": loss,
            "targets.of": targets,
            "arch": arch,
            "image_weights": image_weights,
            "text_weights": text_weights,
            "epochs": epochs,
            "sampling.batch_size": batch_size,
            "seed": seed,
            "encoding": options.encoding,
            "dates": options.dates,
        },
    )
    if folds is None and (queries or gallery or truth):
        raise click.UsageError(
            "--queries, --gallery and --truth need --folds; `similarity evaluate` scores an encoder"
        )
    if folds is not None:
        from corpus.truth import read_truth
        from trainer.train.folds import cross_validate

        table = None if truth is None else read_truth(truth)
        with progress_bars("epochs") as show:
            record = cross_validate(
                config,
                out,
                folds,
                show,
                queries=queries,
                gallery=gallery,
                truth=table,
                device=device,
            )
        _print_folds(record)
        return
    from trainer.train.loop import train as run

    with progress_bars("epochs") as show:
        folder = run(config, out, show, resume=resume, device=device)
    click.echo(folder)


def _print_folds(record: dict[str, Any]) -> None:
    """Print the recipe's row with its interval, and the baselines."""
    from rich.console import Console

    title = f"{record['queries']} images of {record['folds']} folds → {record['gallery']} reports"
    table = ruled_table(title)
    for heading in ("", "P@1", "P@10", "macro lift@5", "nDCG@10"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, row in {"this recipe": record, **record["baselines"]}.items():
        table.add_row(name.replace("_", " "), *("–" if v is None else f"{v:.3f}" for v in _headline(row)))
        if row is record:
            bounds = ("–" if b is None else f"{b[0]:.2f} … {b[1]:.2f}" for b in _headline(row["ci95"]))
            table.add_row("  95 %", *bounds)
    Console().print(table)


def _headline(row: dict[str, Any]) -> list[Any]:
    precision = row["precision_at"]
    return [precision["1"], precision["10"], row["lift_at_5"]["macro"], row["ndcg_at_10"]]
