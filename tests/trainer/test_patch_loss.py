"""Learning where: the loss between texts and patches, and what it takes from findings."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from corpus.errors import TrainingError
from corpus.findings import make_statuses
from tests.encoders import tiny_shape
from trainer.data.features import ImageFeatures
from trainer.data.targets import shown
from trainer.models.architecture import Architecture
from trainer.train.config import AugmentConfig, FreezeConfig
from trainer.train.losses import SHARPNESS, SLOPE, THRESHOLD, InfoNCELoss, WithPatches, best_patches
from trainer.train.towers import build_towers


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_soft_maximum_lies_between_mean_and_maximum_and_ignores_the_order_of_patches() -> None:
    patches, texts = unit(3, 16, 8), unit(5, 8, seed=1)
    cosines = torch.einsum("npd,md->nmp", patches, texts)
    best = best_patches(patches, texts)
    assert bool((best <= cosines.amax(dim=2) + 1e-6).all())
    assert bool((best >= cosines.mean(dim=2) - 1e-6).all())
    torch.testing.assert_close(best, best_patches(patches.flip(1), texts))
    torch.testing.assert_close(best, best_patches(patches.repeat(1, 2, 1), texts))


class Nothing(nn.Module):
    """A loss between wholes that asks for nothing, to see the patches' alone."""

    def forward(self, images: Tensor, texts: Tensor, scale: Tensor, **known: Tensor | None) -> Tensor:
        return images.sum() * 0


def test_the_value_is_the_definition_written_out() -> None:
    features, texts = unit(3, 1 + 4, 8), unit(2, 8, seed=1)
    result = torch.tensor([[1.0, 0.0], [0.0, math.nan], [math.nan, 1.0]])
    value = WithPatches(Nothing(), 3.0)(features, texts, torch.tensor(1.0), shown=result)
    terms: dict[float, list[float]] = {0.0: [], 1.0: []}
    for image in range(3):
        for text in range(2):
            cosines = [float(features[image, 1 + p] @ texts[text]) for p in range(4)]
            pooled = math.log(sum(math.exp(SHARPNESS * c) for c in cosines) / 4) / SHARPNESS
            logit = SLOPE * (pooled - THRESHOLD)
            label = float(result[image, text])
            if not math.isnan(label):
                terms[label].append(math.log1p(math.exp(-logit if label else logit)))
    wanted = 3.0 * sum(np.mean(each) for each in terms.values()) / 2
    assert float(value) == pytest.approx(wanted, rel=1e-5)


def test_the_gradient_calls_the_best_patch_and_sends_a_wrong_text_from_all() -> None:
    texts = unit(1, 8, seed=1)
    patches = unit(1, 6, 8, seed=2)
    patches[0, 2] = F.normalize(texts[0] + 0.3 * patches[0, 2], dim=0)  # one patch fits, the others do not
    for label, sign in ((1.0, -1), (0.0, 1)):
        leaf = torch.cat([unit(1, 1, 8, seed=3), patches], dim=1).requires_grad_()
        loss = WithPatches(Nothing(), 1.0)(leaf, texts, torch.tensor(1.0), shown=torch.tensor([[label]]))
        loss.backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        pull = sign * (leaf.grad[0, 1:] @ texts[0])
        assert bool((pull > 0).all())
        assert int(pull.argmax()) == 2
        assert float(pull[2]) > 10 * float(pull.sort().values[-2])


def test_without_findings_true_pairs_say_what_is_shown_and_without_either_it_refuses() -> None:
    features, texts = unit(2, 5, 8), unit(2, 8, seed=1)
    loss, scale = WithPatches(InfoNCELoss(), 1.0), torch.tensor(5.0)
    pairs = torch.tensor([[0, 0], [1, 1]])
    by_pairs = loss(features, texts, scale, pairs=pairs)
    result = loss(features, texts, scale, pairs=pairs, shown=torch.eye(2))
    torch.testing.assert_close(by_pairs, result)
    with pytest.raises(TrainingError, match="true pair"):
        loss(features, texts, scale, pairs=torch.zeros(0, 2, dtype=torch.int64))
    silent = loss(features, texts, scale, pairs=pairs, shown=torch.full((2, 2), math.nan))
    torch.testing.assert_close(silent, InfoNCELoss()(features[:, 0], texts, scale, pairs=pairs))


def test_what_a_radiograph_shows_of_a_text_is_read_from_both_statuses() -> None:
    radiographs = [
        make_statuses(present=["effusion", "nodule"]),
        make_statuses(present=["no_finding"], absent=["nodule"]),
        make_statuses(uncertain=["effusion"], present=["mass"]),
        {},
    ]
    texts = [
        make_statuses(present=["effusion"]),
        make_statuses(present=["effusion", "nodule"]),
        make_statuses(absent=["effusion"]),
        make_statuses(present=["lung_opacity"]),  # above the leaves: unknown which of them
    ]
    nan = np.nan
    wanted = [[1, 1, nan, nan], [0, 0, nan, nan], [nan, nan, nan, nan], [nan, nan, nan, nan]]
    np.testing.assert_array_equal(shown(radiographs, texts), np.array(wanted, np.float32))


def test_of_the_patches_a_share_is_hidden_and_another_one_each_time() -> None:
    towers = build_towers(Architecture(name="tiny-test", **tiny_shape()), texts=lambda: ["no effusion"] * 3)
    towers.model.eval()
    pixels = np.random.default_rng(0).integers(0, 255, (2, 64, 64), np.uint8)

    def side(hidden: float) -> ImageFeatures:
        augment = AugmentConfig(0.0, 0.0, 0.0, 0.0, 0.0, hidden)
        preprocessing = towers.architecture.preprocess_cfg
        return ImageFeatures(
            towers.model, pixels, preprocessing, FreezeConfig(), augment, torch.device("cpu"), patches=True
        )

    torch.manual_seed(0)
    with torch.no_grad():
        whole, some, others = (side(share).with_patches(np.arange(2)) for share in (0.0, 0.5, 0.5))
    assert some.shape[1] == 1 + (whole.shape[1] - 1) // 2
    torch.testing.assert_close(some[:, 0], whole[:, 0])  # the image itself is looked at whole
    assert not torch.equal(some, others)
    for image in range(2):
        similarity = some[image, 1:] @ whole[image, 1:].T
        assert len(set(similarity.argmax(dim=1).tolist())) == len(
            similarity
        )  # each is one of them, none twice
        torch.testing.assert_close(similarity.amax(dim=1), torch.ones(len(similarity)))
