"""The real data sets, prepared once for a cross-validation, for the benchmarks that train many times."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from corpus.progress import silent
from corpus.truth import read_truth
from trainer.runtime.device import choose_device
from trainer.train.config import TrainConfig
from trainer.train.config_file import read_config
from trainer.train.folds import CrossValidation
from trainer.train.preparation import prepare
from trainer.train.state import open_run

RECIPE = Path(__file__).resolve().parents[1] / "trainer" / "recipes" / "real.toml"
IMAGES, REPORTS, PAIRS = "nih-chestxray14", "openi", "covid-chestxray"

PLAIN = {
    "head.start": "plain",
    "optimizer.keep_start": 0.0,
    "optimizer.head_rate": 1e-3,
    "loss.temperature": 0.2,
    "targets.rarity": 0.25,
    "targets.contrast": 0.0,
    "reading.epochs": 0,
    "image_pretraining.epochs": 0,
}
"""No pretraining of either tower, no start from labels and no pull towards it: what a loss alone learns."""


@dataclass(frozen=True, slots=True)
class RealFolds:
    """Folds over the subjects of the real sets; queries: ChestX-ray14 images, gallery: Open-i reports."""

    crossed: CrossValidation
    base: dict[str, Any]

    def config(self, change: dict[str, Any], seed: int) -> TrainConfig:
        """Return the packaged recipe with some settings changed."""
        return replace(read_config(RECIPE, {**self.base, **change}), seed=seed)


def folds_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the options that these benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, help="default: models beside the data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=-1, help="frozen blocks of the image backbone, -1 all")
    return parser


@contextmanager
def real_folds(options: argparse.Namespace) -> Iterator[RealFolds]:
    """Prepare the real sets in a temporary folder."""
    models = options.models or options.data.parent / "models"
    base = {
        "corpus": [f"{name}:{options.data / name}" for name in (IMAGES, REPORTS, PAIRS)],
        "image_weights": str(models / "mobilenetv2_100-imagenet" / "model.safetensors"),
        "freeze.image_blocks": options.blocks,
        **({} if options.blocks < 0 else {"image_pretraining.epochs": 0}),  # it needs a frozen backbone
    }
    config, device = read_config(RECIPE, base), choose_device("auto")
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_run(Path(scratch) / "run", config, resume=False) as folder,
    ):
        torch.manual_seed(0)
        prepared = prepare(config, folder, silent, device, whole=True)
        truth = read_truth(options.data / "openi-truth" / "openi_gold_std14.csv")
        crossed = CrossValidation(
            prepared, options.folds, device, queries=[IMAGES], gallery=[REPORTS], truth=truth
        )
        yield RealFolds(crossed, base)
