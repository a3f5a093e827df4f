"""`similarity train-segmenter`: train a segmenter on pseudo-labels. Only click is imported until it runs."""

from pathlib import Path

import click

from similarity.progress import progress_bars


@click.command("train-segmenter")
@click.option(
    "--masks",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder with masks.csv, as `localize` over a corpus writes it.",
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run."
)
@click.option("--epochs", type=int, default=60, show_default=True, help="Passes over the images.")
@click.option(
    "--cycles",
    type=int,
    default=4,
    show_default=True,
    help="Learning-rate cycles; each gives a checkpoint of the ensemble.",
)
@click.option("--size", type=int, default=128, show_default=True, help="Side of the input, pixels.")
@click.option("--batch-size", type=int, default=8, show_default=True, help="Images a step.")
@click.option("--learning-rate", type=float, default=2e-3, show_default=True, help="At the start of a cycle.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--resume", is_flag=True, help="Resume the run in --out from its last checkpoint.")
def train_segmenter(
    masks: Path,
    out: Path,
    epochs: int,
    cycles: int,
    size: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    device: str,
    resume: bool,
) -> None:
    """Train a segmenter on pseudo-labels: masks that a localizer made.

    masks.csv has the columns image, mask, structure and confidence; a row without a mask says that the
    structure is absent. The folder of the segmenter is printed; `similarity localize --segmenter FOLDER` uses
    it.
    """
    from trainer.runtime.segmenter import Shape
    from trainer.train.segmenter_loop import SegmenterConfig
    from trainer.train.segmenter_loop import train_segmenter as run

    config = SegmenterConfig(
        shape=Shape(size=size),
        epochs=epochs,
        cycles=cycles,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    with progress_bars("epochs") as on_progress:
        click.echo(run(masks, out, config, on_progress, resume=resume, device=device))
