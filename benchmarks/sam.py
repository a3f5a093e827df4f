"""SAM as a refiner: latency, and Dice by prompting and by the size of the map, beside the random walker.

    python -m benchmarks.sam --data ../shared/data

Latency: LiteMedSAM with its published weights on drawn images; `--random-weights` adds ViT-B and MobileSAM,
for which the architecture decides the time. The uncached answer embeds the image; cached answers read the
embedding and run prompt encoder and decoder only. Processor time, all cores together, matters on a busy
machine.

Dice: a map is simulated by the mean of the annotated mask in each cell of a coarse grid, enlarged to the
image and cleaned as `localize` cleans maps. Every refiner starts from the same cleaned mask. LiteMedSAM was
trained on sets that contain busi with these masks and COVID radiographs with lung masks: its figures on them
are optimistic.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from segment_anything import sam_model_registry

from benchmarks.machine import describe_machine
from corpus.annotations import AnnotatedImage, MaskFolder
from retrieval.localize.evaluation.intervals import mean_over, show_mean
from retrieval.localize.evaluation.measures import dice
from retrieval.localize.refine.embedding_cache import EmbeddingCache
from retrieval.localize.refine.random_walker import RandomWalkerRefiner
from retrieval.localize.refine.refiner import Refiner
from retrieval.localize.refine.regions import boxes_of, clean_masks
from retrieval.localize.refine.sam import Region, SamRefiner, regions_of
from retrieval.localize.refine.sam_checkpoint import Checkpoint, TinyVitEncoder, assemble, load_checkpoint
from trainer.models.resolve import pull

SIZES = ((512, 512), (2500, 2048))
ROUNDS = 10
GRIDS = (6, 10, 20)
LITE = "lite-medsam"
OVERLAP = (
    "LiteMedSAM was trained on sets that contain busi with these masks and COVID radiographs with lung masks."
)

SETS: Mapping[str, Mapping[str, str]] = {
    "busi": {
        "breast tumour, benign": "benign tumours",
        "breast tumour, malignant": "malignant tumours",
    },
    "covid-cxr-segmentation": {
        "Left Lung": "lungs",
        "Right Lung": "lungs",
        "Ground Glass Opacities": "ground glass",
        "Consolidation": "consolidation",
    },
}
"""Set → structure in its annotations → row of the table."""

RULES: Mapping[str, Callable[["Measured"], bool]] = {
    "predicted IoU < 0.7": lambda row: row.predicted < 0.7,
    "predicted IoU < 0.9, mask > 8 % of the image": lambda row: row.predicted < 0.9 and row.share > 0.08,
    "SAM's mask > 2 × the cleaned one, which is > 8 %": lambda row: row.ratio > 2 and row.share > 0.08,
    "mask > 8 % of the image": lambda row: row.share > 0.08,
    "two regions or more": lambda row: row.regions > 1,
    "SAM's mask < 0.7 of the cleaned one": lambda row: row.ratio < 0.7,
}
"""When the walker would serve in place of SAM."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--random-weights", action="store_true", help="time ViT-B and MobileSAM, too")
    parser.add_argument("--every", type=int, default=1, help="measure Dice on every nth image of a set")
    parser.add_argument("--first", type=int, default=0, help="skip so many images of a set")
    parser.add_argument("--float32", action="store_true", help="measure Dice with float32 embeddings, too")
    parser.add_argument("--only", choices=("latency", "dice"), help="measure only this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    console = Console(width=180, highlight=False)
    checkpoint = load_checkpoint(pull(LITE), LITE, torch.device("cpu"))
    if options.only != "dice":
        console.print(_latencies(checkpoint, options.random_weights))
        console.print(f"{options.threads} threads; {describe_machine()}")
    if options.only != "latency" and options.data.is_dir():
        rows = list(_measured_sets(options.data, checkpoint, options))
        for table in (_dice_table(rows), _rule_table(rows)):
            console.print(table)
        console.print(f"{OVERLAP}\n{describe_machine()}")


def _latencies(checkpoint: Checkpoint, random_weights: bool) -> Table:
    table = Table(title="seconds, one region", title_justify="left")
    headings = "", "image", "encoder", "decoder, a box", "uncached", "cached p50", "p95", "processor, cached"
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("", "image") else "right")
    single = replace(checkpoint.family, growths=(0.0,))
    models = {
        "LiteMedSAM": checkpoint,
        "LiteMedSAM, one box": Checkpoint(checkpoint.model, f"{checkpoint.sha256}-one", single),
    }
    if random_weights:
        untrained = {"ViT-B": sam_model_registry["vit_b"](), "MobileSAM": assemble(TinyVitEncoder())}
        for name, model in untrained.items():
            models[name] = Checkpoint(model.eval().requires_grad_(False), name)
    with tempfile.TemporaryDirectory() as scratch:
        for name, each in models.items():
            for size in SIZES:
                cache = EmbeddingCache(name, (256, 64, 64), folder=Path(scratch))
                refiner = SamRefiner(each, name, cache=cache)
                table.add_row(name, *_timed(refiner, size, len(each.family.growths)))
    for size in SIZES:
        table.add_row("random walker", *_timed(RandomWalkerRefiner(), size, 1))
    return table


def _timed(refiner: Refiner, size: tuple[int, int], prompts: int) -> list[str]:
    radiograph, heat = _image(size)
    mask = heat > 0.5
    times, spent = [], []
    for _ in range(ROUNDS + 1):
        began, busy = time.perf_counter(), time.process_time()
        refiner.refine(radiograph, heat, mask, boxes_of(mask))
        times.append(time.perf_counter() - began)
        spent.append(time.process_time() - busy)
    first, later = times[0], sorted(times[1:])
    p50, p95 = statistics.median(later), later[min(len(later) - 1, round(0.95 * len(later)))]
    sam = isinstance(refiner, SamRefiner)
    return [
        f"{size[0]} × {size[1]}",
        f"{first - p50:.2f}" if sam else "–",
        f"{p50 / prompts:.3f}" if sam else "–",
        *(f"{seconds:.2f}" for seconds in (first, p50, p95, statistics.median(spent[1:]))),
    ]


def _image(size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return an image of noise, and a map with one region."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    away = ((rows / height - 0.6) ** 2 + (columns / width - 0.4) ** 2) / 0.1**2
    radiograph = np.random.default_rng(0).random(size, np.float32)
    return radiograph, np.exp(-away).astype(np.float32)


class _Unlimited(SamRefiner):
    """Enlarges the boxes of large regions as far as those of small ones."""

    def _growths_of(self, region: Region) -> tuple[float, ...]:
        return self._growths


@dataclass(frozen=True, slots=True)
class Measured:
    """One annotated structure and one map of it.

    `structure`, `subject`: the row of the table, and the subject.
    `grid`: cells of the map along each side.
    `scores`: refiner → Dice.
    `predicted`: SAM's lowest predicted IoU of the regions.
    `share`: of the image that the cleaned mask covers, in [0, 1].
    `regions`: of the cleaned mask.
    `ratio`: area of SAM's mask to that of the cleaned mask.
    """

    structure: str
    subject: str
    grid: int
    scores: Mapping[str, float]
    predicted: float
    share: float
    regions: int
    ratio: float


CLEANED, WALKER, ONE_BOX, GROWN = "cleaned mask", "random walker", "SAM, its box", "SAM, grown boxes"
UNLIMITED, FLOAT32 = "grown, large ones too", "grown, float32"


def _measured_sets(data: Path, checkpoint: Checkpoint, options: argparse.Namespace) -> Iterator[Measured]:
    single = Checkpoint(checkpoint.model, "", replace(checkpoint.family, growths=(0.0,)))
    with tempfile.TemporaryDirectory() as scratch:
        cache = EmbeddingCache("dice", (256, 64, 64), folder=Path(scratch))
        refiners = {
            ONE_BOX: SamRefiner(single, "one", cache=cache),
            UNLIMITED: _Unlimited(checkpoint, "unlimited", cache=cache),
            GROWN: SamRefiner(checkpoint, "grown", cache=cache),
        }
        if options.float32:
            exact = EmbeddingCache("float32", (256, 64, 64), folder=Path(scratch))
            refiners[FLOAT32] = SamRefiner(checkpoint, "float32", cache=exact, precision=torch.float32)
        for name, structures in SETS.items():
            images = MaskFolder.open(data / name).read(lambda problem: print(problem.reason))
            for annotated in islice(images, options.first, None, options.every):
                for structure, mask in annotated.structures.items():
                    if structure in structures:
                        for grid in GRIDS:
                            yield _measure(annotated, mask, structures[structure], grid, refiners)


def _measure(
    annotated: AnnotatedImage,
    truth: NDArray[np.bool_],
    structure: str,
    grid: int,
    refiners: Mapping[str, SamRefiner],
) -> Measured:
    image = annotated.image
    heat = _simulated(truth, grid)
    [mask] = clean_masks(image, [heat], [None])
    regions = regions_of(heat, mask, boxes_of(mask))
    walked = RandomWalkerRefiner().refine(image, heat, mask, boxes_of(mask))
    scores = {CLEANED: dice(mask, truth), WALKER: dice(walked, truth)}
    answers = {name: refiner.answers(image, regions) for name, refiner in refiners.items()}
    united = {name: np.logical_or.reduce([answer.mask for answer in each]) for name, each in answers.items()}
    scores |= {name: dice(each, truth) for name, each in united.items()}
    return Measured(
        structure, annotated.subject_id, grid, scores,
        predicted=min(answer.predicted_iou for answer in answers[GROWN]),
        share=float(mask.mean()), regions=len(regions), ratio=float(united[GROWN].sum() / mask.sum()),
    )  # fmt: skip


def _simulated(truth: NDArray[np.bool_], grid: int) -> NDArray[np.float32]:
    """A map of grid × grid cells: the share of each that the annotation covers, enlarged to the image."""
    height, width = truth.shape
    cells = Image.fromarray(truth.astype(np.float32)).resize((grid, grid), Image.Resampling.BOX)
    heat = np.asarray(cells.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    raised: NDArray[np.float32] = np.clip(heat / max(float(heat.max()), 1e-8), 0, 1)
    return raised


def _dice_table(rows: Sequence[Measured]) -> Table:
    title = "Dice (95 % CI over subjects), by cells of the map along each side"
    table = Table(title=title, title_justify="left", padding=(0, 0))
    names = list(rows[0].scores)
    for heading in ("", "map", "annotations", *names, "grown − walker", "walker better"):
        table.add_column(heading)
    for structure, grid in dict.fromkeys((row.structure, row.grid) for row in rows):
        some = [row for row in rows if (row.structure, row.grid) == (structure, grid)]
        subjects = [row.subject for row in some]
        means = [_mean([row.scores[name] for row in some], subjects) for name in names]
        lead = [row.scores[GROWN] - row.scores[WALKER] for row in some]
        better = f"{sum(value < 0 for value in lead) / len(lead):.2f}"
        table.add_row(structure, str(grid), str(len(some)), *means, _mean(lead, subjects), better)
    subjects = [row.subject for row in rows]
    means = [_mean([row.scores[name] for row in rows], subjects) for name in names]
    gain = _mean([row.scores[GROWN] - row.scores[UNLIMITED] for row in rows], subjects)
    table.add_row("all", "", str(len(rows)), *means, f"limit: {gain}")
    return table


def _rule_table(rows: Sequence[Measured]) -> Table:
    """What each rule would gain over SAM alone, on lesions and on lungs."""
    table = Table(title="the walker in place of SAM: gain in Dice (95 % CI)", title_justify="left")
    for heading in ("where", "maps it concerns", "all", *GRIDS):
        table.add_column(str(heading))
    for name, applies in RULES.items():
        gains = [row.scores[WALKER] - row.scores[GROWN] if applies(row) else 0.0 for row in rows]
        cells = [_mean(gains, [row.subject for row in rows])]
        for grid in GRIDS:
            some = [(gain, row.subject) for gain, row in zip(gains, rows, strict=True) if row.grid == grid]
            cells.append(_mean([gain for gain, _ in some], [subject for _, subject in some]))
        table.add_row(name, f"{sum(map(applies, rows)) / len(rows):.2f}", *cells)
    return table


def _mean(values: Sequence[float], subjects: Sequence[str]) -> str:
    return show_mean(mean_over(values, subjects).as_json())


if __name__ == "__main__":
    main()
