"""`similarity train-segmenter`: the command. Only click is imported until it runs."""

from pathlib import Path

import click


@click.command("train-segmenter")
@click.option(
    "--masks",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder with masks.csv, as `localize` over a corpus writes it.",
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The run's folder."
)
@click.option("--epochs", type=int, default=60, show_default=True, help="Times through the pictures.")
@click.option(
    "--cycles", type=int, default=4, show_default=True, help="Each ends in a checkpoint that votes."
)
@click.option("--size", type=int, default=128, show_default=True, help="Pixels a side that it sees.")
@click.option("--batch-size", type=int, default=8, show_default=True, help="Pictures a step.")
@click.option("--learning-rate", type=float, default=2e-3, show_default=True, help="At the start of a cycle.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything that is drawn.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out from its last checkpoint.")
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
    """Learn to draw structures from masks that nobody drew by hand.

    masks.csv has the columns image, mask, structure and confidence; a row without a mask says that the
    structure is not in the picture. What comes out is a folder whose path is printed; `similarity localize
    --segmenter FOLDER` draws with it.
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
    click.echo(run(masks, out, config, _tell, resume=resume, device=device))


def _tell(stage: str, done: int, total: int, note: str) -> None:
    """A line an epoch, and one when all is read."""
    if stage == "train" or done == total:
        click.echo(f"{stage} {done}/{total} {note}".rstrip(), err=True)
