"""An image backbone with arguments of its own: a finer grid that plain open_clip loads all the same."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from corpus.errors import EncoderError
from tests.encoders import tiny_shape
from trainer.models.architecture import Architecture, find_architecture
from trainer.models.export import export_encoder
from trainer.runtime.encoder import Encoder
from trainer.train.towers import build_towers


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = tiny_shape()
    shape["model_cfg"]["vision_cfg"]["timm_model_name"] = "local-dir:."
    shape["image_trunk"] = {"architecture": "test_efficientnet", "model_args": {"output_stride": 8}}
    architecture = Architecture(name="fine-test", **shape)
    towers = build_towers(architecture, texts=lambda: ["no pleural effusion. small left nodule."] * 3)
    folder = tmp_path_factory.mktemp("fine") / "encoder"
    return export_encoder(towers.model, towers.tokenizer, architecture, {"data": []}, folder)


def test_published_weights_of_the_network_start_its_finer_form(tmp_path: Path) -> None:
    torch.manual_seed(3)
    usual = timm.create_model("test_efficientnet")
    save_file(usual.state_dict(), tmp_path / "published.safetensors")  # its classifier among them
    shape = tiny_shape()
    shape["model_cfg"]["vision_cfg"]["timm_model_name"] = "local-dir:."
    shape["image_trunk"] = {"architecture": "test_efficientnet", "model_args": {"output_stride": 8}}
    towers = build_towers(
        Architecture(name="fine-test", **shape),
        image_weights=str(tmp_path / "published.safetensors"),
        texts=lambda: ["no pleural effusion"] * 3,
    )
    trunk: Any = towers.model.visual.trunk  # type: ignore[union-attr]
    torch.testing.assert_close(trunk.conv_stem.weight, usual.conv_stem.weight)


def test_the_grid_is_finer_and_its_mean_is_still_the_image(fine: Path) -> None:
    encoder = Encoder.load(fine, "cpu")
    image = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    assert encoder.encode_patches([image]).vectors.shape[:3] == (1, 8, 8)  # of 64 px, a place every 8
    from trainer.runtime.feature_maps import patch_features

    with torch.inference_mode():
        raw = (
            patch_features(encoder.model, encoder.torch_towers().inputs(image[None]))
            .mean(dim=(1, 2))[0]
            .numpy()
        )
    np.testing.assert_allclose(raw / np.linalg.norm(raw), encoder.encode_images([image])[0], atol=1e-5)


def test_a_moved_folder_still_loads_here_and_in_plain_open_clip(fine: Path, tmp_path: Path) -> None:
    wanted = Encoder.load(fine, "cpu").encode_images([np.eye(64, dtype=np.float32)])
    moved = Path(shutil.copytree(fine, tmp_path / "moved"))
    stored = Encoder.load(fine, "cpu").fingerprint
    encoder = Encoder.load(moved, "cpu")  # writes where it lies now
    assert encoder.fingerprint == stored
    np.testing.assert_array_equal(encoder.encode_images([np.eye(64, dtype=np.float32)]), wanted)
    plain, _, _ = open_clip.create_model_and_transforms(f"local-dir:{moved}")
    pixels = encoder.torch_towers().inputs(np.eye(64, dtype=np.float32)[None])
    with torch.inference_mode():
        vectors = plain.eval().encode_image(pixels, normalize=True).numpy()
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)


def test_another_grid_has_another_fingerprint_and_an_edited_one_is_refused(
    fine: Path, tmp_path: Path
) -> None:
    edited = Path(shutil.copytree(fine, tmp_path / "edited"))
    trunk = edited / "trunk" / "config.json"
    trunk.write_text(trunk.read_text().replace('"output_stride": 8', '"output_stride": 16'))
    with pytest.raises(EncoderError, match=r"trunk/config\.json .* is not the file that was exported"):
        Encoder.load(edited, "cpu")
    trunk.unlink()
    with pytest.raises(EncoderError, match=r"lacks trunk/config\.json"):
        Encoder.load(edited, "cpu")


def test_a_patch_of_the_architecture_that_localizes_sees_its_surroundings_and_no_more() -> None:
    """In pixels of the 256: what a patch says of a finding is said of its place."""
    shape = find_architecture("bag-minilm")
    assert shape.image_trunk is not None
    torch.manual_seed(0)
    trunk = timm.create_model(shape.image_trunk["architecture"], **shape.image_trunk["model_args"]).eval()
    pixels = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0), requires_grad=True)
    grid = trunk.forward_features(pixels)
    assert grid.shape[2:] == (32, 32)
    grid[0, :, 16, 16].square().sum().backward()
    assert pixels.grad is not None
    seen = pixels.grad[0].abs().sum(dim=0) > 0
    for side in (seen.any(dim=0), seen.any(dim=1)):
        positions = side.nonzero().flatten()
        width = int(positions[-1] - positions[0]) + 1
        assert 40 < width < 100
        assert abs(float(positions[0] + positions[-1]) / 2 - 132) < 8  # around its own 8 × 8 pixels
    # What lies three patches off has a fraction of the say: else maps peak beside small findings.
    result = pixels.grad[0].abs().sum(dim=0)
    for along in (result.sum(dim=0), result.sum(dim=1)):
        of_patches = along.reshape(32, 8).sum(dim=1)
        assert of_patches[16] > 3 * max(of_patches[13], of_patches[19])
