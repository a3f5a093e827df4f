"""Encoders small enough to be made in a test: untrained, seeded, whole."""

import copy
import json
from importlib import resources
from pathlib import Path

WORDS = (
    "the lungs are clear no pleural effusion or pneumothorax. heart size is normal. left right lower upper "
    "lobe consolidation opacity small large moderate mild nodule cardiomegaly cannot exclude pneumonia. "
    "stable unchanged resolved increased in the mediastinal contour is unremarkable edema atelectasis. "
)


def build_tiny_encoder(folder: Path, *, seed: int = 0, image_size: int = 64) -> Path:
    """Write an untrained encoder folder (64 px, 32 dimensions, 32 tokens) in a second or two.

    The same seed gives the same weights, so the same fingerprint.
    """
    import torch

    from trainer.export import export_encoder
    from trainer.registry import Architecture
    from trainer.towers import build_towers

    shape = json.loads((resources.files("trainer.architectures") / "tiny.json").read_text("utf-8"))
    shape = copy.deepcopy(shape)
    shape["model_cfg"]["embed_dim"] = 32
    shape["model_cfg"]["vision_cfg"]["image_size"] = image_size
    shape["model_cfg"]["text_cfg"]["context_length"] = 32
    shape["text_tower"].update(hidden_size=32, intermediate_size=64, num_hidden_layers=1, vocab_size=400)
    architecture = Architecture(name="tiny-test", **{k: v for k, v in shape.items() if k != "note"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers = build_towers(architecture, texts=lambda: [WORDS] * 3)
    return export_encoder(towers.model, towers.tokenizer, architecture, {"data": []}, folder)
