"""Encoders small enough to be made in a test: untrained, seeded, whole."""

import json
import os
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from filelock import FileLock

SHARED_FOLDER = "SIMILARITY_TEST_FOLDER"
"""Variable with the folder that all processes of a test run share; `tests.conftest` makes and removes it."""

WORDS = (
    "the lungs are clear no pleural effusion or pneumothorax. heart size is normal. left right lower upper "
    "lobe consolidation opacity small large moderate mild nodule cardiomegaly cannot exclude pneumonia. "
    "stable unchanged resolved increased in the mediastinal contour is unremarkable edema atelectasis. "
)


def tiny_shape(*, image_size: int = 64, dim: int = 32) -> dict[str, Any]:
    """The architecture `tiny`, smaller still: what its JSON file would hold."""
    text = (resources.files("trainer.architectures") / "tiny.json").read_text("utf-8")
    shape: dict[str, Any] = json.loads(text)
    shape["model_cfg"]["embed_dim"] = dim
    shape["model_cfg"]["vision_cfg"].update(image_size=image_size, timm_model_name="test_efficientnet")
    shape["model_cfg"]["text_cfg"]["context_length"] = 32
    shape["text_tower"].update(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=400
    )
    return shape


def tiny_levels_shape(
    *, image_size: int = 64, dim: int = 32, hidden: int = 12, constant: bool = False
) -> dict[str, Any]:
    """The same with a backbone of three levels and a neck."""
    shape = tiny_shape(image_size=image_size, dim=dim)
    shape["model_cfg"]["vision_cfg"]["timm_model_name"] = "local-dir:."
    arguments: dict[str, Any] = {
        "network": "test_efficientnet",
        "levels": [1, 2, 3],
        "grid": 2,
        "hidden": hidden,
    }
    if constant:
        arguments["constant"] = True
    shape["image_trunk"] = {"architecture": "similarity_multilevel", "model_args": arguments}
    return shape


def build_tiny_encoder(
    folder: Path,
    *,
    seed: int = 0,
    image_size: int = 64,
    shape: dict[str, Any] | None = None,
    graphs: bool | None = None,
) -> Path:
    """Write an untrained encoder folder (64 px, 32 dimensions, 32 tokens).

    The same seed gives the same weights, so the same fingerprint.

    Args:
        folder: to be made.
        seed: of the weights.
        image_size: of the images.
        shape: default `tiny_shape`.
        graphs: export inference graphs, too, which takes ten seconds; default only in the encoder without
            other arguments, which is made once and copied: commands on it start without torch.
    """
    plain = seed == 0 and image_size == 64 and shape is None
    if plain and graphs is None:
        return Path(shutil.copytree(_whole_encoder(), folder))
    return _build(folder, seed, shape or tiny_shape(image_size=image_size), graphs=bool(graphs))


def _whole_encoder() -> Path:
    """The encoder with graphs that all processes of a test run copy."""
    made = Path(os.environ[SHARED_FOLDER]) / "tiny"
    with FileLock(made.with_suffix(".lock")):
        return made if made.exists() else _build(made, 0, tiny_shape(), graphs=True)


def _build(folder: Path, seed: int, shape: dict[str, Any], *, graphs: bool) -> Path:
    import torch

    from trainer.models.architecture import Architecture
    from trainer.models.export import export_encoder
    from trainer.train.towers import build_towers

    architecture = Architecture(name="tiny-test", **shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers = build_towers(architecture, texts=lambda: [WORDS] * 3)
    return export_encoder(towers.model, towers.tokenizer, architecture, {"data": []}, folder, graphs=graphs)
