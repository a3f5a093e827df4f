"""What the trainer's tests share: one untrained encoder, made once."""

from pathlib import Path

import pytest
import torch

from tests.encoders import build_tiny_encoder
from trainer.runtime.encoder import Encoder

torch.set_num_threads(1)  # the networks here are too small to share out


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder folder that tests read and never change."""
    return build_tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny", graphs=False)


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> Encoder:
    return Encoder.load(encoder_folder, device="cpu")
