"""Saliency by four methods: as their papers define them, and the same alone and in any batch."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM

from corpus.errors import UsageError
from retrieval.localize.saliency.gscorecam import (
    CHANNELS,
    as_masks,
    choose_points,
    matern_kernel,
    predict,
    score_masks,
)
from retrieval.localize.saliency.maps import METHODS, SMOOTHING, raw_maps, scaled, smooth
from trainer.runtime.activations import last_map
from trainer.runtime.encoder import Encoder
from trainer.runtime.feature_maps import patch_features

TEXTS = ["right pleural effusion", "nodule in the left upper lobe", "the heart is normal"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_maps_the_patches_of_a_backbone_with_several_levels(
    method: str, levels_encoder: Encoder, images: list[np.ndarray]
) -> None:
    texts = levels_encoder.encode_texts(TEXTS)
    maps = raw_maps(levels_encoder, images, texts, method)
    assert maps[0].grids.shape == (3, 16, 16)  # the grid of its middle level, whatever the coarsest
    assert all(np.isfinite(each.grids).all() for each in maps)
    if method != "gscorecam":
        assert np.ptp(maps[0].grids[0]) > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_map_is_the_same_alone_and_in_a_batch_and_again(
    method: str, encoder: Encoder, images: list[np.ndarray]
) -> None:
    texts = encoder.encode_texts(TEXTS)
    together = raw_maps(encoder, images, texts, method)
    alone = raw_maps(encoder, images[2:], texts[1:2], method)[0]
    again = raw_maps(encoder, images[2:], texts[1:2], method)[0]
    assert (alone.grids == again.grids).all()
    reach = np.abs(alone.grids).max()
    np.testing.assert_allclose(together[2].grids[1], alone.grids[0], atol=2e-3 * reach)
    assert together[2].over(1).shape == images[2].shape
    assert np.isfinite(together[2].grids).all()


class _Cosine(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, text: torch.Tensor) -> None:
        super().__init__()
        self.model, self.text = model, text

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors = torch.nn.functional.normalize(self.model.encode_image(pixels), dim=-1)  # type: ignore[operator]
        return (vectors @ self.text)[:, None]


def test_gradcam_agrees_with_the_grad_cam_library(encoder: Encoder, images: list[np.ndarray]) -> None:
    texts = encoder.encode_texts(TEXTS)
    ours = raw_maps(encoder, images, texts, "gradcam")
    pixels = encoder.inputs(images)
    backbone = encoder.model.visual.trunk  # type: ignore[union-attr]
    compared = 0
    for number, text in enumerate(torch.from_numpy(texts)):
        with GradCAM(_Cosine(encoder.model, text), [backbone.bn2]) as cam:  # type: ignore[list-item]
            theirs = cam(pixels.clone().requires_grad_(), targets=None)  # scaled to [0, 1], over the square
        for position in range(len(images)):
            mine = encoder.framing.undo(ours[position].grids[number], encoder.image_size, encoder.image_size)
            if mine.max() > 1e-6:
                np.testing.assert_allclose(scaled(mine), theirs[position], atol=2e-3)
                compared += 1
    assert compared >= 4


def _plain_average(cells: np.ndarray) -> np.ndarray:
    """Of (gh, gw) cells: each a mean of its neighbours up to three deviations away, the borders repeated."""
    height, width = cells.shape
    down, across = SMOOTHING * height, SMOOTHING * width
    reach_down, reach_across = round(3 * down), round(3 * across)
    averaged = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            total = 0.0
            for y in range(-reach_down, reach_down + 1):
                for x in range(-reach_across, reach_across + 1):
                    weight = np.exp(-0.5 * ((y / down) ** 2 + (x / across) ** 2))
                    neighbour = min(max(row + y, 0), height - 1), min(max(column + x, 0), width - 1)
                    averaged[row, column] += weight * float(cells[neighbour])
                    total += weight
            averaged[row, column] /= total
    return averaged


def test_the_fast_map_is_the_cosine_of_the_encoders_patches_with_their_neighbours(
    encoder: Encoder, images: list[np.ndarray]
) -> None:
    texts = encoder.encode_texts(TEXTS)
    pixels = encoder.inputs(images)
    with torch.no_grad():  # by definition: the head of the network on each position of its feature map
        grids = patch_features(encoder.model, pixels).double().numpy()
    for grid, maps in zip(grids, raw_maps(encoder, images, texts, "patches"), strict=True):
        unit = grid / np.linalg.norm(grid, axis=-1, keepdims=True)
        wanted = [_plain_average(unit @ text.astype(np.float64)) for text in texts]
        assert maps.grids.dtype == np.float32
        np.testing.assert_allclose(maps.grids, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 7), (32, 32), (16, 40), (48, 20), (1, 1)])
def test_a_patch_is_averaged_with_neighbours_within_a_share_of_the_image(shape: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).uniform(-1, 1, (2, 3, *shape)).astype(np.float32)
    expected = [[_plain_average(one) for one in rows] for rows in maps]
    np.testing.assert_allclose(smooth(maps), expected, rtol=0, atol=1e-6)
    if max(shape) <= 14:
        np.testing.assert_allclose(smooth(maps), maps, atol=0.01)


def test_m2ib_maps_are_information_and_depend_on_the_text(encoder: Encoder, images: list[np.ndarray]) -> None:
    # Information is nowhere negative, and not the same for every text.
    texts = encoder.encode_texts(TEXTS)
    maps = raw_maps(encoder, images[:1], np.concatenate([texts, -texts[:1]]), "m2ib")[0].grids
    assert (maps >= 0).all()
    assert np.abs(maps[0] - maps[3]).max() > 1e-3


def test_an_unknown_method_is_refused_with_the_known_ones(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="known are gradcam, gscorecam, m2ib, patches"):
        raw_maps(encoder, [], np.zeros((1, encoder.dim), np.float32), "lime")


def test_a_level_map_points_nowhere() -> None:
    assert (scaled(np.full((4, 5), 0.7, np.float32)) == 0).all()
    full = scaled(np.array([[-3.0, 1.0], [0.0, 5.0]], np.float32))
    assert (full.min(), full.max()) == (0.0, 1.0)


def test_gscorecam_is_the_map_of_the_plain_loop_over_the_same_channels(
    encoder: Encoder, images: list[np.ndarray]
) -> None:
    text = torch.from_numpy(encoder.encode_texts(TEXTS[:1]))
    quick = raw_maps(encoder, images[:1], text.numpy(), "gscorecam")[0].grids[0]
    pixels = encoder.inputs(images[:1])
    last = last_map(encoder.model, pixels)
    ranks = last.gradients(text).mean(dim=(2, 3))[0, 0]
    channels = last.grid[0].permute(2, 0, 1)
    most = ranks.topk(min(CHANNELS, len(channels))).indices
    masks = as_masks(channels)
    one_by_one = [score_masks(encoder, pixels[0], masks[c][None], text)[0, 0] for c in most]
    plain = torch.einsum("c,chw->hw", torch.stack(one_by_one).softmax(dim=0), channels[most]).clamp(min=0)
    assert np.corrcoef(plain.numpy().ravel(), quick.ravel())[0, 1] > 0.98


def test_the_chosen_points_predict_themselves_and_the_rest() -> None:
    points = torch.rand(80, 3, generator=torch.Generator().manual_seed(0))
    values = torch.sin(3 * points[:, 0]) + points[:, 1] * points[:, 2]
    kernel = matern_kernel(points)
    chosen = choose_points(kernel, torch.ones(80), 30)
    assert len(set(chosen.tolist())) == 30
    [predicted] = predict(kernel, chosen, values[None, chosen])
    assert (predicted[chosen] == values[chosen]).all()
    rest = torch.ones(80, dtype=torch.bool)
    rest[chosen] = False
    assert (predicted - values)[rest].abs().mean() < 0.1 * values.std()
    level = predict(kernel, chosen, torch.full((2, 30), 0.7))
    torch.testing.assert_close(level, torch.full((2, 80), 0.7))


def test_the_point_with_the_largest_weight_is_chosen_first() -> None:
    kernel = matern_kernel(torch.rand(40, 2, generator=torch.Generator().manual_seed(1)))
    strengths = torch.full((40,), 0.1)
    strengths[7] = 1.0
    chosen = choose_points(kernel, strengths, 5)
    assert int(chosen[0]) == 7
