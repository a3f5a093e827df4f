"""The real-data encoder beside InfoNCE, its baselines and the ImageNet features that it started from.

    python -m benchmarks.encoder --encoder runs/real --data ../shared/data --models ../shared/models

Held-out subjects only. First table: radiographs (NIH ChestX-ray14) query, reports (Open-i) are the gallery,
gold findings the ground truth; the recipe, then InfoNCE on same-finding pairs with the same data, steps and
start, trained in this run into a folder of its own. Second table: radiograph → radiograph, beside the
ImageNet features that training started from.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.machine import describe_machine
from corpus.errors import EncoderError
from corpus.geometry import Framing
from corpus.sources import open_source
from corpus.truth import read_truth
from trainer.evaluation.evaluate import evaluate, evaluate_vectors
from trainer.evaluation.gallery import Encoded, encode, gather
from trainer.models.architecture import find_architecture
from trainer.models.resolve import open_encoder
from trainer.runtime.feature_maps import backbone_features
from trainer.train.config import TrainConfig
from trainer.train.config_file import read_config
from trainer.train.loop import train
from trainer.train.towers import build_towers

RECIPE = Path(__file__).resolve().parents[1] / "trainer" / "recipes" / "real.toml"


def with_infonce(config: TrainConfig) -> TrainConfig:
    """Return the same settings with InfoNCE on same-finding pairs, as many texts as images per step."""
    sampling = replace(config.sampling, pairing="matched", text_batch_size=0)
    return replace(config, loss=replace(config.loss, name="infonce"), sampling=sampling)


class BackboneFeatures:
    """An image's pooled features before any training: what the image tower starts from."""

    def __init__(self, arch: str, weights: str) -> None:
        architecture = find_architecture(arch)
        towers = build_towers(architecture, image_weights=weights)
        self.model: nn.Module = towers.model.eval()
        self.framing = Framing(int(architecture.model_cfg["vision_cfg"]["image_size"]))
        self.mean, self.std = architecture.preprocess_cfg["mean"], architecture.preprocess_cfg["std"]

    def encode_framed(self, framed: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, size, size) in [0, 1] → (n, features) unit rows."""
        shape = (1, 3, 1, 1)
        mean, std = (torch.tensor(values).view(shape) for values in (self.mean, self.std))
        with torch.inference_mode():
            pixels = torch.from_numpy(framed)[:, None].expand(-1, 3, -1, -1)
            features = backbone_features(self.model, (pixels - mean) / std)
            return np.asarray(F.normalize(features, dim=-1).numpy(), np.float32)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Raise EncoderError: a backbone alone reads no text."""
        raise EncoderError("a bare image backbone reads no text")


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--encoder", default="runs/real", help="what `make encoder` wrote")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, help="default: models beside the data")
    parser.add_argument(
        "--foil",
        dest="infonce",
        type=Path,
        default=Path("runs/real-infonce"),
        help="folder of the InfoNCE encoder",
    )
    options = parser.parse_args()

    console = Console(width=110)
    models = options.models or options.data.parent / "models"
    weights = str(models / "mobilenetv2_100-imagenet" / "model.safetensors")
    config = read_config(
        RECIPE,
        {"corpus": tuple(f"{name}:{options.data / name}" for name in SOURCES), "image_weights": weights},
    )
    if not (options.infonce / "encoder").is_dir():
        began = time.monotonic()
        train(with_infonce(config), options.infonce)
        console.print(f"InfoNCE trained in {time.monotonic() - began:.0f} s", highlight=False)

    nih = open_source(f"nih-chestxray14:{options.data / 'nih-chestxray14'}")
    openi = open_source(f"openi:{options.data / 'openi'}")
    truth = read_truth(options.data / "openi-truth" / "openi_gold_std14.csv")
    ours = open_encoder(options.encoder)
    other = open_encoder(options.infonce)

    across = {
        "this recipe": evaluate(ours, nih, openi, truth=truth),
        "InfoNCE, same-finding pairs": evaluate(other, nih, openi, truth=truth),
    }
    console.print(tabulate("Radiograph → report, held-out subjects, gold findings", across))
    raw = BackboneFeatures(config.arch, weights)
    within = {
        "this recipe": evaluate(ours, nih, nih),
        "raw ImageNet features": evaluate_vectors(_encoded(raw, nih), _encoded(raw, nih)),
    }
    console.print(tabulate("Radiograph → radiograph, held-out subjects, labels of the set", within))
    console.print(describe_machine(), highlight=False)


SOURCES = ("nih-chestxray14", "openi", "covid-chestxray")


def _encoded(embedder: BackboneFeatures, source: Any) -> Encoded:
    return encode(gather(source, "image"), embedder)


def tabulate(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    """Return one line per model with its 95 % intervals, then the baselines on the same queries."""
    table = Table(title=title)
    for heading in ("", "P@1", "P@10", "macro lift@5", "nDCG@10"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, record in rows.items():
        table.add_row(name, *(f"{value:.3f}" for value in _numbers(record)), style="bold")
        bounds = _numbers(record["ci95"])
        table.add_row("  95 %", *(f"{low:.2f} … {high:.2f}" for low, high in bounds))
    for name, record in next(iter(rows.values()))["baselines"].items():
        table.add_row(name.replace("_", " "), *(f"{value:.3f}" for value in _numbers(record)))
    return table


def _numbers(record: dict[str, Any]) -> list[Any]:
    precision = record["precision_at"]
    return [precision["1"], precision["10"], record["lift_at_5"]["macro"], record["ndcg_at_10"]]


if __name__ == "__main__":
    main()
