"""Sensitivity and specificity of masks, and whether correspondence finds the finding.

    python -m benchmarks.specificity --encoder runs/phantom --source phantom:300@71

A calibration is fitted on a part of the source's images; its rates are measured on the others. On phantoms,
pairs of images that share a finding are matched, too: the strongest pair of boxes counts if both centres
lie on the same finding, within the tolerance of the pointing game. The baseline is the two patches with the
largest activation.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from benchmarks.machine import describe_machine

if TYPE_CHECKING:
    from corpus.geometry import Box
    from retrieval.localize.specificity.map_statistics import References
    from trainer.runtime.encoder import Encoder

Masks = Mapping[str, NDArray[np.bool_]]


@click.command()
@click.option("--data", help="Not needed: phantoms are drawn.")
@click.option("--encoder", "name", default="runs/phantom", show_default=True, help="Encoder folder or name.")
@click.option("--source", "sources", multiple=True, default=("phantom:300@71",), show_default=True)
@click.option("--method", "methods", multiple=True, default=("patches",), show_default=True)
@click.option("--films", default=160, show_default=True, help="Images a calibration takes at most.")
@click.option("--pairs", default=60, show_default=True, help="Pairs of phantoms that are matched.")
@click.option("--device", default="auto", show_default=True, help="Where the model runs.")
def main(
    data: str | None,
    name: str,
    sources: tuple[str, ...],
    methods: tuple[str, ...],
    films: int,
    pairs: int,
    device: str,
) -> None:
    """Measure and print."""
    from corpus.sources import open_source
    from retrieval.localize.specificity.calibration_fit import calibrate
    from trainer.models.resolve import open_encoder

    encoder = open_encoder(name, device=device)
    table = Table(title=f"sensitivity and specificity of {encoder.name}, on images not fitted on")
    for column in ("source", "method", "present: mask", "absent: none", "shuffled: none", "random: none"):
        table.add_column(column, justify="right")
    for source in sources:
        for method in methods:
            studies = open_source(source).studies(lambda problem: None)
            fitted = calibrate(encoder, studies, method, most=films)
            rates, references = fitted.rates, fitted.references
            kinds = ("present", "absent", "shuffled", "random")
            table.add_row(source.split(":")[0], method, *(f"{rates[kind]:.3f}" for kind in kinds))
    Console().print(table)
    if pairs:
        ours, baseline, chance = match_phantoms(encoder, pairs, references)
        Console().print(
            f"correspondence, {pairs} pairs of phantoms that share a finding: strongest pair on it in both "
            f"{ours:.2f}, "
            f"largest activation {baseline:.2f}, random patches {chance:.2f}"
        )
    Console().print(describe_machine())


def match_phantoms(
    encoder: "Encoder", pairs: int, references: "References", seed: int = 72
) -> tuple[float, float, float]:
    """Share of pairs on the same finding in both images: ours, largest activation, random patches."""
    from corpus.phantom import masks, render, scene
    from retrieval.localize.correspondence import find_correspondence

    random = np.random.default_rng(seed)
    drawn = [scene(seed, number) for number in range(8 * pairs)]
    singles = [one for one in drawn if len({lesion.finding for lesion in one.lesions}) == 1]
    singles = [one for one in singles if not any(lesion.faint for lesion in one.lesions)]
    hits: list[tuple[bool, bool, bool]] = []
    for one in singles:
        finding = one.lesions[0].finding
        others = [two for two in singles if two.lesions[0].finding == finding and two.subject != one.subject]
        if not others or len(hits) == pairs:
            continue
        two = others[int(random.integers(len(others)))]
        images = [render(radiograph) for radiograph in (one, two)]
        truth = [masks(radiograph)[finding] for radiograph in (one, two)]
        found = find_correspondence(encoder, images[0], images[1], references=references).pairs
        boxes = [found[0].query, found[0].hit] if found else []
        hits.append(
            (
                bool(boxes) and all(_centred(box, mask) for box, mask in zip(boxes, truth, strict=True)),
                all(_on(cell, mask) for cell, mask in zip(_largest(encoder, images), truth, strict=True)),
                all(_on(random.random(2), mask) for mask in truth),
            )
        )
    ours, baseline, chance = np.mean(hits, axis=0)
    return float(ours), float(baseline), float(chance)


def _largest(encoder: "Encoder", images: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    """Return where the last map of each image has the largest norm, as shares of the square's sides."""
    from trainer.runtime.activations import last_map

    strength = last_map(encoder.model, encoder.inputs(images)).grid.norm(dim=-1).cpu().numpy()
    return [
        (np.array(np.unravel_index(int(one.argmax()), one.shape)) + 0.5) / np.array(one.shape)
        for one in strength
    ]


def _centred(box: "Box", mask: NDArray[np.bool_]) -> bool:
    return _near((box.top + box.bottom) // 2, (box.left + box.right) // 2, mask)


def _on(share: NDArray[np.float64], mask: NDArray[np.bool_]) -> bool:
    row, column = (share * mask.shape).astype(int)
    return _near(row, column, mask)


def _near(row: int, column: int, mask: NDArray[np.bool_]) -> bool:
    """Return whether a pixel lies in a mask, within the tolerance of the pointing game."""
    from retrieval.localize.evaluation.measures import tolerance_in_pixels

    away = float(ndimage.distance_transform_edt(~mask)[row, column])
    return away <= tolerance_in_pixels(mask.shape)


if __name__ == "__main__":
    main()
