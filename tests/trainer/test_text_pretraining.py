"""A text tower that learns to read lays texts where their findings lie, and is then left alone."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from corpus.errors import UsageError
from tests.encoders import WORDS, tiny_shape
from trainer.data.features import TextFeatures, encode_all
from trainer.models.architecture import Architecture
from trainer.runtime.tokens import WindowTokenizer
from trainer.train.config import FreezeConfig, OptimizerConfig, TextPretrainingConfig
from trainer.train.config_file import read_config
from trainer.train.text_pretraining import pretrain_text_tower
from trainer.train.towers import Towers, build_towers

FINDINGS = ("effusion", "consolidation", "edema", "atelectasis")
LABELLED = [
    (f"{first} {degree} {finding} in the {side} lobe {second}", finding, first == "there is")
    for finding, degree, side, (first, second) in product(
        FINDINGS,
        ("small", "large", "mild"),
        ("left", "right", "lower"),
        (("there is", "heart size is normal"), ("no", "heart is stable")),
    )
]
TEXTS = [text for text, _, _ in LABELLED]
LEFT_OUT = np.arange(len(LABELLED)) % 7 == 3
FAST = {"epochs": 60, "batch_size": 16, "learning_rate": 5e-3, "head_rate": 1e-2, "frozen_layers": 0}


def new_towers() -> Towers:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_towers(
            Architecture(name="t", **tiny_shape(image_size=32)), texts=lambda: [WORDS, *TEXTS] * 3
        )


def side(towers: Towers) -> TextFeatures:
    tokenizer = WindowTokenizer.of_tokenizer(towers.tokenizer, 32)
    return TextFeatures(towers.model, tokenizer, TEXTS, FreezeConfig(text_layers=-1), torch.device("cpu"))


def positions() -> Tensor:
    """A direction for each finding that is affirmed, and one for what denies it."""
    rows = torch.zeros(len(LABELLED), 32)
    for row, (_, finding, affirmed) in zip(rows, LABELLED, strict=True):
        row[FINDINGS.index(finding) if affirmed else len(FINDINGS)] = 1
    return rows


def read(towers: Towers, wanted: Tensor, **settings: Any) -> list[float]:
    losses: list[float] = []
    model: Any = towers.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pretrain_text_tower(
            side(towers),
            model.text,
            wanted,
            np.ones(len(LABELLED)),
            TextPretrainingConfig(**FAST | settings),
            OptimizerConfig(),
            0,
            lambda stage, done, total=None, note="", /: losses.append(float(note.removeprefix("loss "))),
        )
    return losses


def test_texts_come_to_lie_where_their_findings_lie_also_those_never_read() -> None:
    towers, wanted = new_towers(), positions()
    shown = wanted.clone()
    shown[torch.from_numpy(LEFT_OUT)] = 0  # what has no place is not drawn
    losses = read(towers, shown)
    assert losses[-1] < 0.1 < losses[0]
    towers.model.eval()
    vectors = encode_all(side(towers).features, len(LABELLED))
    nearest = (vectors @ np.eye(32, dtype=np.float32)).argmax(axis=1)
    right = nearest == wanted.argmax(dim=1).numpy()
    assert right[LEFT_OUT].mean() > 0.9  # a denial and an affirmation of one finding are not one place


def test_what_is_to_stay_frozen_stays_and_afterwards_all_is_but_the_projection() -> None:
    towers = new_towers()
    before = {name: tensor.clone() for name, tensor in towers.model.state_dict().items()}
    read(towers, positions(), epochs=1, frozen_layers=1)
    changed = {n for n, tensor in towers.model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed == {"text.proj.weight"}
    read(towers, positions(), epochs=1)
    changed = {n for n, tensor in towers.model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert any(name.startswith("text.transformer.encoder.layer.0.") for name in changed)
    assert not any(name.startswith("visual.") for name in changed)
    text: Any = towers.model.text
    assert [name for name, p in text.named_parameters() if p.requires_grad] == ["proj.weight"]


def test_texts_of_no_finding_teach_nothing() -> None:
    towers = new_towers()
    before = {name: tensor.clone() for name, tensor in towers.model.state_dict().items()}
    assert read(towers, torch.zeros(len(LABELLED), 32)) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in towers.model.state_dict().items())


def test_a_tower_that_reads_and_then_goes_on_learning_is_refused() -> None:
    with pytest.raises(UsageError, match="set freeze"):
        read_config(None, {"reading.epochs": 1})
    with pytest.raises(UsageError, match="teaches the text tower"):
        read_config(None, {"reading.epochs": 1, "freeze.text_layers": -1, "loss.name": "infonce"})
    assert read_config(None, {"reading.epochs": 1, "freeze.text_layers": -1}).text_pretraining.epochs == 1
