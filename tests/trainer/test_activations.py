"""Inside of image towers of every family: one form of map, cut where the vector still depends on it."""

from collections import OrderedDict
from collections.abc import Iterator

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from corpus.errors import EncoderError
from trainer.runtime.activations import last_map, part_tower
from trainer.runtime.feature_maps import as_grid, patch_features

SIZE = 96
BACKBONES = ("test_efficientnet", "test_resnet", "test_convnext", "test_vit", "swin")


class OneTower(nn.Module):
    """What of an open_clip model saliency looks at."""

    def __init__(self, trunk: str) -> None:
        super().__init__()
        if trunk == "swin":
            self.visual: nn.Module = _small_swin()
        else:
            self.visual = open_clip.timm_model.TimmModel(
                trunk, 16, SIZE, pool="" if trunk == "test_vit" else "avg", proj="linear", pretrained=False
            )
        self.size = SIZE


def _small_swin() -> nn.Module:
    trunk = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=SIZE, window_size=3, embed_dim=24, depths=(1, 1, 1), num_heads=(2, 2, 2), num_classes=0,
    )  # fmt: skip
    return nn.Sequential(OrderedDict(trunk=trunk, head=nn.Linear(trunk.num_features, 16)))


@pytest.fixture(scope="module", params=BACKBONES)
def tower(request: pytest.FixtureRequest) -> Iterator[OneTower]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield OneTower(request.param).eval().requires_grad_(False)


def _pixels(tower: OneTower, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, tower.size, tower.size, generator=torch.Generator().manual_seed(2))


def test_the_vector_is_the_towers_own_and_depends_on_every_patch(tower: OneTower) -> None:
    pixels = _pixels(tower)
    available = last_map(tower, pixels)
    whole = F.normalize(tower.visual(pixels), dim=-1)
    torch.testing.assert_close(available.vectors.detach(), whole, atol=1e-5, rtol=1e-4)
    texts = F.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(3)), dim=-1)
    gradients = available.gradients(texts)
    assert gradients.shape[:2] == (2, 3)
    assert gradients.shape[2:] == available.grid.shape[1:]
    assert (gradients.abs().sum(dim=-1) > 0).all()


def test_parted_and_joined_again_it_is_the_same_tower(tower: OneTower) -> None:
    pixels = _pixels(tower)
    parted = part_tower(tower, tower.size)
    available = parted.activations(pixels)
    whole = F.normalize(tower.visual(pixels), dim=-1)
    torch.testing.assert_close(parted.vectors(available), whole, atol=1e-5, rtol=1e-4)
    n, height, width, _ = parted.grid(available).shape
    assert (n, height) == (2, width)


def test_behind_the_last_attention_no_patch_reaches_a_class_token() -> None:
    # Why a plain transformer's map is taken at norm1: at norm2, which gScoreCAM's reference takes, the
    # gradients of all patches are zero, and a ranking of channels by them is a ranking of nothing.
    tower = OneTower("test_vit").eval().requires_grad_(False)
    available = []

    def keep(_module: nn.Module, _given: object, output: torch.Tensor) -> torch.Tensor:
        available.append(output.detach().requires_grad_())
        return available[-1]

    tower.visual.trunk.blocks[-1].norm2.register_forward_hook(keep)
    score = tower.visual(_pixels(tower, 1)).sum()
    gradient = torch.autograd.grad(score, available[-1])[0]
    assert (gradient[:, 1:] == 0).all()
    assert (gradient[:, 0] != 0).any()


def test_a_tower_without_patches_is_refused_with_one_message() -> None:
    class Flat(nn.Module):
        def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.flatten(1)[:, :8]

    tower = OneTower("test_efficientnet")
    tower.visual.trunk = Flat()
    with pytest.raises(EncoderError, match="gives no feature map"):
        last_map(tower, torch.zeros(1, 3, 8, 8))
    with pytest.raises(EncoderError, match="gives no feature map"):
        patch_features(tower, torch.zeros(1, 3, 8, 8))
    with pytest.raises(EncoderError, match="m2ib needs"):
        part_tower(tower, 8)
    tower.visual = nn.Linear(2, 2)
    with pytest.raises(EncoderError, match="not a timm network"):
        last_map(tower, torch.zeros(1, 3, 8, 8))


def test_tokens_that_are_no_grid_are_no_feature_map() -> None:
    trunk = OneTower("test_vit").visual.trunk
    grid = trunk.patch_embed.grid_size
    assert as_grid(trunk, torch.zeros(1, 1 + grid[0] * grid[1], 4)).shape == (1, *grid, 4)
    assert as_grid(trunk, torch.zeros(1, 3, 4)) is None
