"""`similarity train`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from similarity.cli.source_options import SourceOptions, table_options

if TYPE_CHECKING:
    from trainer.train.preparation import Progress

LOSSES = ("semantic-matching", "dhn-nce", "infonce", "multi-positive-infonce")
TARGETS = ("findings", "concepts", "embedding")


@click.command()
@click.option("--corpus", "corpora", multiple=True, metavar="SOURCE", help="KIND:PATH; may be given again.")
@click.option("--loss", type=click.Choice(LOSSES), help="What training minimises.  [semantic-matching]")
@click.option("--targets", type=click.Choice(TARGETS), help="What items are compared by.  [findings]")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The run's folder."
)
@click.option("--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="TOML file.")
@click.option("--arch", metavar="NAME|FILE", help="Shape of the encoder.  [tiny]")
@click.option("--image-weights", metavar="FILE|FOLDER|timm:NAME", help="What the image tower starts from.")
@click.option("--text-weights", metavar="FOLDER|NAME", help="What the text tower starts from.")
@click.option("--epochs", type=int, help="Times through the pictures.")
@click.option("--batch-size", type=int, help="Pictures a step, and texts.")
@click.option("--seed", type=int, help="Of everything that is drawn.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@table_options
@click.option("--resume", is_flag=True, help="Go on with the run in --out from its last checkpoint.")
@click.option("--folds", type=int, help="Make no encoder: cross-validate over so many parts of the people.")
@click.option("--queries", multiple=True, metavar="KIND", help="With --folds: only this source's films ask.")
@click.option(
    "--gallery", multiple=True, metavar="KIND", help="With --folds: only this source's reports answer."
)
@click.option(
    "--truth",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --folds: table of true findings, for scoring only.",
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
    """Train an encoder on any mix of sources: paired, pictures without text, text without pictures.

    Writes checkpoints and curves into the run's folder and the encoder into its `encoder/`, whose path is
    printed. Options override the TOML file; every setting of it is in the resolved `config.toml` of a run.
    A tenth of the subjects is held out for tuning, a fifth for testing; neither is trained on.

    Several processes: `torchrun --nproc-per-node 4 --no-python similarity train …`, or `accelerate
    launch --no_python` likewise.

    With --folds the recipe is measured instead: each part of the people, the test part aside, is asked of an
    encoder trained on the others. Choose by this, and ask the test part once.
    """
    from trainer.train.config import read_config

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
            "--queries, --gallery and --truth go with --folds; `evaluate` measures an encoder"
        )
    if folds is not None:
        from corpus.truth import read_truth
        from trainer.train.folds import cross_validate

        table = None if truth is None else read_truth(truth)
        with _Shown() as show:
            record = cross_validate(
                config, out, folds, show, queries=queries, gallery=gallery, truth=table, device=device
            )
        _print_folds(record)
        return
    from trainer.train.loop import train as run

    with _Shown() as show:
        folder = run(config, out, show, resume=resume, device=device)
    click.echo(folder)


def _print_folds(record: dict[str, Any]) -> None:
    """Print the recipe's row with its interval, and the baselines."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"{record['queries']} films of {record['folds']} folds → {record['gallery']} reports"
    table = Table(title=title, box=box.SIMPLE_HEAD)
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


class _Shown:
    """Progress on stderr: bars on a terminal, else a line a stage and an epoch."""

    def __enter__(self) -> Callable[["Progress"], None]:
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        if not sys.stderr.isatty():
            return self._line
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._bars.start()
        return self._bar

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _line(self, progress: "Progress") -> None:
        if progress.stage == "epoch" or (progress.stage != "train" and progress.done == progress.total):
            click.echo(
                f"{progress.stage} {progress.done}/{progress.total} {progress.note}".rstrip(), err=True
            )

    def _bar(self, progress: "Progress") -> None:
        if progress.stage == "epoch":
            self._bars.console.print(f"epoch {progress.done}/{progress.total} {progress.note}")
            return
        learning = progress.stage in ("read", "train")  # what its note says changes as it goes on
        name = progress.stage if learning else f"{progress.stage} {progress.note}".strip()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=progress.total, note="")
        note = progress.note if learning else ""
        self._bars.update(self._tasks[name], completed=progress.done, total=progress.total, note=note)
