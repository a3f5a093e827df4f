"""A neck that is pretrained on labels of whole images: it finds what they name, and where it lies."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import spearmanr

from corpus.errors import TrainingError, UsageError
from corpus.findings import VOCABULARY, Status, Statuses
from tests.encoders import tiny_levels_shape, tiny_shape
from trainer.data.features import ImageFeatures
from trainer.models.architecture import Architecture
from trainer.train.config import FreezeConfig, ImagePretrainingConfig, TrainConfig
from trainer.train.config_file import read_config
from trainer.train.image_pretraining import FindingLogits, learn_neck, pretrain_image_tower
from trainer.train.towers import build_towers

SIZE, DIM, SQUARE = 64, 32, 14
NAMES = ("nodule", "pleural_effusion")


def _model(levels: bool = True, constant: bool = False) -> Any:
    build = partial(tiny_levels_shape, hidden=24, constant=constant) if levels else tiny_shape
    shape = build(image_size=SIZE, dim=DIM)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_towers(Architecture(name="t", **shape), texts=lambda: ["effusion"] * 3).model
    return model.eval()


def _images(count: int, seed: int) -> tuple[NDArray[np.uint8], list[Statuses], NDArray[np.int64]]:
    """Noise with a bright square (nodule), a striped one (effusion), or neither; the corner of each."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 120, (count, SIZE, SIZE)).astype(np.uint8)
    corners = rng.integers(4, SIZE - SQUARE - 4, (count, 2))
    statuses: list[Statuses] = []
    for number, (top, left) in enumerate(corners):
        kind = number % 3
        square = pixels[number, top : top + SQUARE, left : left + SQUARE]
        if kind == 0:
            square[:] = 220
        elif kind == 1:
            square[::2], square[1::2] = 0, 255
        statuses.append({NAMES[kind]: Status.PRESENT} if kind < 2 else {"no_finding": Status.PRESENT})
    return pixels, statuses, corners


def _features(model: Any, pixels: NDArray[np.uint8]) -> ImageFeatures:
    statistics = {"mean": [0.5], "std": [0.25]}
    return ImageFeatures(
        model, pixels, statistics, FreezeConfig(image_blocks=-1), None, torch.device("cpu"), patches=True
    )


def _directions() -> torch.Tensor:
    noise = torch.randn(DIM, len(VOCABULARY.names), generator=torch.Generator().manual_seed(4))
    return torch.linalg.qr(noise)[0]


def _pretrained(constant: bool = False, **settings: Any) -> tuple[Any, list[float]]:
    model, losses = _model(constant=constant), []
    pixels, statuses, _ = _images(90, seed=1)
    features = _features(model, pixels)
    features.standardise_neck(np.arange(len(pixels)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pretrain_image_tower(
            features, model, statuses, np.full(len(pixels), 1 / len(pixels)), _directions(),
            ImagePretrainingConfig(**{"epochs": 25, "batch_size": 15, "learning_rate": 1e-2, **settings}),
            0, lambda stage, done, total=None, note="", /: losses.append(float(note.removeprefix("loss "))),
        )  # fmt: skip
    return model.eval(), losses


def test_a_finding_labelled_for_whole_images_is_found_where_it_lies_in_images_never_seen() -> None:
    model, losses = _pretrained()
    assert losses[-1] < 0.5 * losses[0]
    pixels, statuses, corners = _images(60, seed=2)
    with torch.no_grad():
        patches = _features(model, pixels).patch_map(np.arange(len(pixels)))
    maps = torch.einsum("ndhw,dc->nchw", patches, _directions())
    cell, inside = SIZE / maps.shape[2], []
    for number, status in enumerate(statuses):
        for name in NAMES:
            if status.get(name) is Status.PRESENT:
                best = int(maps[number, VOCABULARY.names.index(name)].argmax())
                at = (np.array(divmod(best, maps.shape[3])) + 0.5) * cell
                inside.append(
                    bool(((at >= corners[number] - cell) & (at <= corners[number] + SQUARE + cell)).all())
                )
    assert np.mean(inside) > 0.9  # a random patch lies there in one of six images


def test_with_a_constant_channel_a_cosine_grows_with_the_evidence() -> None:
    model, _ = _pretrained(constant=True)
    with torch.no_grad():
        pixels, _, _ = _images(40, seed=2)
        patches = _features(model, pixels).patch_map(np.arange(len(pixels)))
    vectors = patches.permute(0, 2, 3, 1).flatten(0, 2)
    evidence, cosine = vectors @ _directions(), F.normalize(vectors, dim=1) @ _directions()
    inside = evidence @ _directions().T
    constant = vectors - inside
    torch.testing.assert_close(constant, constant[:1].expand_as(constant), atol=1e-4, rtol=1e-3)
    assert float(constant[0].norm() / inside.norm(dim=1).mean()) == pytest.approx(2.0, rel=0.2)
    columns = [VOCABULARY.names.index(name) for name in NAMES]
    alone = F.normalize(inside, dim=1) @ _directions()
    for column in columns:
        order = [_rank_correlation(evidence[:, column], other[:, column]) for other in (cosine, alone)]
        assert order[0] > max(0.9, order[1])


def _rank_correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(spearmanr(one.numpy(), other.numpy()).statistic)


def test_a_constant_channel_needs_a_direction_that_is_no_findings() -> None:
    pixels, statuses, _ = _images(30, seed=1)
    model = _model(constant=True)
    square = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(1)))[0]
    with pytest.raises(TrainingError, match="raise embed_dim above 32"):
        pretrain_image_tower(
            _features(model, pixels), model, statuses, np.full(30, 1 / 30), square,
            ImagePretrainingConfig(epochs=1), 0,
        )  # fmt: skip


def test_the_network_and_its_levels_do_not_change_and_the_neck_is_frozen_afterwards() -> None:
    before = _model().state_dict()
    model, _ = _pretrained(epochs=1)
    for name, value in model.visual.trunk.levels.state_dict().items():
        torch.testing.assert_close(value, before[f"visual.trunk.levels.{name}"], rtol=0, atol=0)
    assert not any(p.requires_grad for p in model.visual.trunk.parameters())
    assert all(p.requires_grad for p in model.visual.head.parameters())


def test_log_odds_are_those_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, DIM, 4, 5, generator=generator)
    directions = _directions()[:, :3]
    prior = torch.tensor([0.1, 0.5, 0.9])
    head = FindingLogits(directions, prior, torch.ones(3, dtype=torch.bool))
    strongest, whole = head(patches, 0.0)
    for image in range(2):
        for column in range(3):
            evidence = [
                [float(patches[image, :, y, x] @ directions[:, column]) for x in range(5)] for y in range(4)
            ]
            smooth = [
                np.mean([
                    evidence[min(max(y + dy, 0), 3)][min(max(x + dx, 0), 4)]
                    for dy in (-1, 0, 1) for dx in (-1, 0, 1)
                ])
                for y in range(4) for x in range(5)
            ]  # fmt: skip
            wanted = math.log(np.mean(np.exp(smooth)))
            assert float(strongest[image, column].detach()) == pytest.approx(wanted, abs=1e-4)
            share = float(prior[column])
            assert float(whole[image, column].detach()) == pytest.approx(
                3 * np.mean(smooth) + math.log(share / (1 - share)), abs=1e-4
            )


def test_hidden_patches_hide_a_share_of_each_image() -> None:
    head = FindingLogits(_directions()[:, :1], torch.tensor([0.5]), torch.ones(1, dtype=torch.bool))
    patches = torch.zeros(64, DIM, 6, 6)
    patches[:, :, :3] = 30 * _directions()[:, 0].view(1, DIM, 1, 1)  # half of the patches show the finding
    torch.manual_seed(0)
    seen = [float(head(patches, hidden)[0].detach().std()) for hidden in (0.0, 0.5)]
    assert seen[0] == 0 < seen[1]


def test_an_image_tower_without_a_neck_is_refused() -> None:
    pixels, statuses, _ = _images(30, seed=1)
    model = _model(levels=False)
    with pytest.raises(TrainingError, match="levels-minilm"):
        pretrain_image_tower(
            _features(model, pixels), model, statuses, np.full(30, 1 / 30), _directions(),
            ImagePretrainingConfig(epochs=1), 0,
        )  # fmt: skip


def test_findings_of_too_few_images_are_refused() -> None:
    pixels, statuses, _ = _images(9, seed=1)
    model = _model()
    with pytest.raises(TrainingError, match="10 training images"):
        pretrain_image_tower(
            _features(model, pixels), model, statuses, np.full(9, 1 / 9), _directions(),
            ImagePretrainingConfig(epochs=1), 0,
        )  # fmt: skip


def test_a_projection_that_nothing_pretrained_is_refused(tmp_path: Any) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('[head]\nstart = "pretrained"\n')
    with pytest.raises(UsageError, match=r"image_pretraining: set its epochs above 0"):
        read_config(file, {})


def test_levels_are_frozen_all_or_not_at_all() -> None:
    pixels, _, _ = _images(3, seed=1)
    with pytest.raises(TrainingError, match=r"freeze\.image_blocks to -1 or 0, not 1"):
        ImageFeatures(
            _model(), pixels, {"mean": [0.5], "std": [0.25]}, FreezeConfig(image_blocks=1), None,
            torch.device("cpu"),
        )  # fmt: skip


@pytest.mark.parametrize("blocks", [-1, 0])
def test_a_new_neck_standardises_the_channels_of_its_training_images(blocks: int) -> None:
    model, (pixels, _, _) = _model(), _images(70, seed=1)  # more than one chunk
    features = ImageFeatures(
        model, pixels, {"mean": [0.5], "std": [0.25]}, FreezeConfig(image_blocks=blocks), None,
        torch.device("cpu"),
    )  # fmt: skip
    features.standardise_neck(np.arange(70))
    with torch.no_grad():
        levels = model.visual.trunk.levels(features.inputs(np.arange(70)))
    deviation, mean = torch.std_mean(levels.double(), dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(model.visual.trunk.neck.mean.double(), mean, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(model.visual.trunk.neck.deviation.double(), deviation, atol=1e-3, rtol=1e-2)


def test_a_neck_learns_in_steps_unless_it_was_pretrained_whatever_came_before() -> None:
    model = _model()
    learn_neck(model, learn=False)
    learn_neck(model, learn=True)
    assert all(p.requires_grad for p in model.visual.trunk.neck.parameters())
    learn_neck(_model(levels=False), learn=True)  # a tower without a neck stays as it is


def test_a_backbone_that_is_not_frozen_is_refused_with_the_setting_to_change(tmp_path: Any) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("[image_pretraining]\nepochs = 3\n")
    with pytest.raises(UsageError, match=r"freeze\.image_blocks to -1"):
        read_config(file, {})
    assert TrainConfig().image_pretraining.epochs == 0
