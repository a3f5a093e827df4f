"""An untrained encoder and phantom images: properties of localization that hold for any encoder."""

import numpy as np
import pytest

from corpus.phantom import render, scene
from tests.encoders import build_tiny_encoder, tiny_levels_shape
from trainer.runtime.encoder import Encoder


@pytest.fixture(scope="package")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    return Encoder.load(build_tiny_encoder(folder, image_size=128), "cpu")


@pytest.fixture(scope="package")
def levels_encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("encoder") / "levels"
    shape = tiny_levels_shape(image_size=128)
    return Encoder.load(build_tiny_encoder(folder, shape=shape), "cpu")


@pytest.fixture(scope="package")
def images() -> list[np.ndarray]:
    return [render(scene(1, number), 96) for number in range(2)] + [render(scene(1, 2), 140)[:, 20:110]]
