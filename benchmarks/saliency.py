"""Speed of the maps: gScoreCAM beside the plain loop over the same channels, patches beside one forward pass.

    python -m benchmarks.saliency --data ../shared/data --encoder runs/real

The plain loop masks and scores the image one channel after another, as the method is published. Both weigh
the same channels, and their maps are compared by correlation. The text is encoded once for both.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from trainer.runtime.encoder import Encoder

Result = TypeVar("Result")
PHRASES = ("pleural effusion", "cardiomegaly", "pneumonia")


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of real data."
)
@click.option("--encoder", "name", default="runs/real", show_default=True, help="Encoder folder or name.")
@click.option("--films", default=50, show_default=True, help="Real images that the maps are compared on.")
@click.option("--timed", default=5, show_default=True, help="Images of these that are timed alone.")
@click.option("--device", default="auto", show_default=True, help="Where the model runs.")
def main(data: Path, name: str, films: int, timed: int, device: str) -> None:
    """Measure and print."""
    import torch

    from corpus.images.reader import read_image
    from retrieval.localize.saliency.maps import raw_maps
    from trainer.models.resolve import open_encoder

    encoder = open_encoder(name, device=device)
    every = sorted((data / "nih-chestxray14" / "images").glob("*.png"))
    images = [read_image(path) for path in every[:: max(1, len(every) // films)][:films]]
    texts = encoder.encode_texts(PHRASES)
    correlations, seconds = [], {"loop": 0.0, "ours": 0.0, "forward": 0.0, "patches": 0.0}
    for number, image in enumerate(images):
        text = texts[[number % len(texts)]]
        wanted = torch.from_numpy(text).to(encoder.device)
        loop, took = _timed(lambda image=image, wanted=wanted: plain_loop(encoder, image, wanted))  # type: ignore[misc]
        ours, quick = _timed(lambda image=image, text=text: raw_maps(encoder, [image], text, "gscorecam"))  # type: ignore[misc]
        correlations.append(float(np.corrcoef(loop.ravel(), ours[0].grids[0].ravel())[0, 1]))
        if number < timed:
            seconds["loop"] += took
            seconds["ours"] += quick
            for _ in range(5):
                seconds["forward"] += _timed(lambda image=image: encoder.encode_images([image]))[1]  # type: ignore[misc]
                seconds["patches"] += _timed(
                    lambda image=image, text=text: raw_maps(encoder, [image], text, "patches")  # type: ignore[misc]
                )[1]
    table = Table(title=f"maps of {encoder.name}, {len(images)} images, one phrase each")
    for column in ("what", "seconds an image", "ratio", "lowest correlation", "mean"):
        table.add_column(column, justify="right")
    timed = min(timed, len(images))
    table.add_row("gScoreCAM, plain loop", f"{seconds['loop'] / timed:.2f}", "", "", "")
    table.add_row(
        "gScoreCAM, ours",
        f"{seconds['ours'] / timed:.2f}",
        f"{seconds['loop'] / seconds['ours']:.1f} × faster",
        f"{min(correlations):.4f}",
        f"{np.mean(correlations):.4f}",
    )
    table.add_row("one forward", f"{seconds['forward'] / timed / 5:.3f}", "", "", "")
    table.add_row(
        "patches",
        f"{seconds['patches'] / timed / 5:.3f}",
        f"{seconds['patches'] / seconds['forward']:.2f} ×",
        "",
        "",
    )
    Console().print(table)
    Console().print(describe_machine())


def plain_loop(
    encoder: "Encoder", image: "NDArray[np.float32]", text: "torch.Tensor"
) -> "NDArray[np.float32]":
    """gScoreCAM as published: one forward pass a channel. `text` (1, dim); returns (gh, gw)."""
    import torch

    from retrieval.localize.saliency.gscorecam import CHANNELS, TOKEN_CHANNELS, as_masks, score_masks
    from trainer.runtime.activations import last_map

    pixels = encoder.inputs([image])
    last = last_map(encoder.model, pixels)
    channels = last.grid[0].permute(2, 0, 1)
    most = TOKEN_CHANNELS if last.activations.ndim == 3 else CHANNELS
    ranks = last.gradients(text).mean(dim=(2, 3))[0, 0]
    chosen = ranks.topk(min(most, len(channels))).indices
    masks = as_masks(channels)
    scores = torch.stack([score_masks(encoder, pixels[0], masks[c][None], text)[0, 0] for c in chosen])
    heat = torch.einsum("c,chw->hw", scores.softmax(dim=0), channels[chosen]).clamp(min=0)
    return np.asarray(heat.cpu().numpy())


def _timed(run: Callable[[], Result]) -> tuple[Result, float]:
    began = time.perf_counter()
    result = run()
    return result, time.perf_counter() - began


if __name__ == "__main__":
    main()
