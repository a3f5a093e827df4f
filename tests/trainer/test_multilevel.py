"""A backbone that joins several levels of a network: what it computes, and how its encoder is stored."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from corpus.errors import EncoderError
from tests.encoders import tiny_levels_shape
from trainer.models.architecture import Architecture, find_architecture
from trainer.models.export import export_encoder
from trainer.runtime.encoder import Encoder
from trainer.runtime.encoder_folder import read_json
from trainer.runtime.feature_maps import backbone_features, patch_features
from trainer.runtime.multilevel import MultiLevel
from trainer.train.towers import build_towers


def _architecture(hidden: int = 12) -> Architecture:
    return Architecture(name="levels-test", **tiny_levels_shape(hidden=hidden))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture = _architecture()
    torch.manual_seed(1)
    towers = build_towers(architecture, texts=lambda: ["no pleural effusion. small left nodule."] * 3)
    out = tmp_path_factory.mktemp("levels") / "encoder"
    return export_encoder(towers.model, towers.tokenizer, architecture, {"data": []}, out)


def test_levels_are_the_outputs_of_the_networks_own_blocks_on_one_grid() -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet").eval()
    backbone = MultiLevel("test_efficientnet", [1, 2, 3], 2).eval()
    backbone.levels.load_published(network.state_dict())
    pixels = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        blocks = network.forward_intermediates(pixels, indices=[1, 2, 3], intermediates_only=True)
        joined = backbone.forward_features(pixels)
    fine, middle, coarse = torch.split(joined, [level.shape[1] for level in blocks], dim=1)
    torch.testing.assert_close(middle, blocks[1])
    torch.testing.assert_close(fine, F.avg_pool2d(blocks[0], 2))
    torch.testing.assert_close(fine.mean(dim=(2, 3)), blocks[0].mean(dim=(2, 3)))
    assert coarse.shape[2:] == middle.shape[2:]


def test_published_weights_start_the_levels(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = timm.create_model("test_efficientnet")
    save_file(network.state_dict(), tmp_path / "published.safetensors")  # with the parts after the last level
    towers = build_towers(
        _architecture(), image_weights=str(tmp_path / "published.safetensors"), texts=lambda: ["effusion"] * 3
    )
    trunk: Any = towers.model.visual.trunk  # type: ignore[union-attr]
    torch.testing.assert_close(trunk.levels.network.conv_stem.weight, network.conv_stem.weight)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(EncoderError, match=r"other\.safetensors.*missing or misshaped"):
        build_towers(
            _architecture(), image_weights=str(tmp_path / "other.safetensors"), texts=lambda: ["a"] * 3
        )


def test_an_encoder_of_the_same_kind_starts_backbone_and_neck(folder: Path) -> None:
    towers = build_towers(_architecture(), image_weights=str(folder), texts=lambda: ["effusion"] * 3)
    trunk: Any = towers.model.visual.trunk  # type: ignore[union-attr]
    earlier: Any = Encoder.load(folder, "cpu").model.visual.trunk  # type: ignore[union-attr]
    torch.testing.assert_close(trunk.neck.project.weight, earlier.neck.project.weight)


def test_the_mean_of_an_images_patches_is_its_own_vector(folder: Path) -> None:
    encoder = Encoder.load(folder, "cpu")
    image = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    with torch.inference_mode():
        patches = patch_features(encoder.model, encoder.inputs([image]))[0]
    assert patches.shape[:2] == (8, 8)  # the grid of level 2: a patch every 8 pixels
    raw = patches.mean(dim=(0, 1)).numpy()
    np.testing.assert_allclose(raw / np.linalg.norm(raw), encoder.encode_images([image])[0], atol=1e-5)


def test_backbone_features_are_those_before_the_neck(folder: Path) -> None:
    encoder = Encoder.load(folder, "cpu")
    pixels = encoder.inputs([np.random.default_rng(0).random((64, 64), dtype=np.float32)])
    trunk: Any = encoder.model.visual.trunk  # type: ignore[union-attr]
    with torch.inference_mode():
        features = backbone_features(encoder.model, pixels)
    assert features.shape == (1, trunk.levels.channels)


def test_a_moved_folder_loads_to_the_same_vectors_and_says_that_plain_open_clip_cannot(
    folder: Path, tmp_path: Path
) -> None:
    image = np.random.default_rng(2).random((50, 64), dtype=np.float32)
    before = Encoder.load(folder, "cpu").encode_images([image])
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    np.testing.assert_array_equal(Encoder.load(moved, "cpu").encode_images([image]), before)
    assert read_json(moved / "similarity.json")["plain_open_clip"] is False


@pytest.mark.parametrize(
    ("levels", "grid", "reason"),
    [([2, 1], 1, "rise"), ([1, 2], 3, "contain the grid"), ([1, 9], 1, "no levels")],
)
def test_levels_that_a_network_lacks_are_refused(levels: list[int], grid: int, reason: str) -> None:
    with pytest.raises(EncoderError, match=reason):
        MultiLevel("test_efficientnet", levels, grid)


def test_the_packaged_architecture_joins_strides_8_16_and_32_of_mobilenetv2() -> None:
    shape = find_architecture("levels-minilm")
    assert shape.image_trunk is not None
    backbone = timm.create_model(shape.image_trunk["architecture"], **shape.image_trunk["model_args"]).eval()
    assert backbone.levels.channels == 32 + 96 + 320
    with torch.inference_mode():
        assert backbone.forward_features(torch.zeros(1, 3, 320, 320)).shape == (1, 128, 20, 20)


def test_a_constant_channel_is_one_everywhere_and_needs_a_neck() -> None:
    torch.manual_seed(0)
    backbone = MultiLevel("test_efficientnet", [1, 2, 3], 2, hidden=8, constant=True).eval()
    with torch.inference_mode():
        features = backbone.forward_features(torch.rand(2, 3, 64, 64))
    assert backbone.num_features == features.shape[1] == 9
    assert bool((features[:, -1] == 1).all())
    with pytest.raises(EncoderError, match="needs a neck"):
        MultiLevel("test_efficientnet", [1, 2, 3], 2, constant=True)
