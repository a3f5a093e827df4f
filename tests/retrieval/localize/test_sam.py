"""The SAM refiner: published files, all prompts, one embedding per image, many threads."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segment_anything import SamPredictor, sam_model_registry
from torch import Tensor, nn

from corpus.errors import EncoderError, UsageError
from corpus.geometry import Box
from corpus.settings import settings
from retrieval.localize.refine.embedding_cache import EmbeddingCache
from retrieval.localize.refine.refiner import open_refiner
from retrieval.localize.refine.sam import PromptKind, SamRefiner
from retrieval.localize.refine.sam_checkpoint import (
    MEDSAM,
    SAM,
    Checkpoint,
    TinyVitEncoder,
    load_checkpoint,
    published_to_ours,
)
from retrieval.localize.refine.sam_framing import Frame, to_image
from tests.retrieval.localize.published_sam import (
    decoder_state,
    mobile_sam_features,
    mobile_sam_state,
    write_mobile_sam,
    write_vit,
)
from tests.waiting import DEADLINE_SECONDS
from trainer.models import resolve

torch.set_num_threads(1)
CPU = torch.device("cpu")


class Glance(nn.Module):
    """An image encoder that takes no time and counts its calls."""

    img_size = 1024

    def __init__(self) -> None:
        super().__init__()
        self.neck = nn.Conv2d(3, 256, 16, 16)
        self.calls: list[int] = []

    def forward(self, square: Tensor) -> Tensor:
        self.calls.append(1)
        return self.neck(square)


@pytest.fixture(scope="module")
def glancing() -> Checkpoint:
    """A SAM with a decoder of random weights, with masks that are neither empty nor everything."""
    torch.manual_seed(7)
    with torch.device("meta"):
        model = sam_model_registry["vit_b"]()
    model.image_encoder = None
    model = model.to_empty(device="cpu")
    model.pixel_mean = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1)
    model.pixel_std = torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1)
    model.image_encoder = Glance()
    with torch.no_grad():
        model.image_encoder.neck.weight.mul_(3)
    model.load_state_dict(decoder_state(), strict=False)
    with torch.no_grad():
        for embedding in model.prompt_encoder.point_embeddings:
            embedding.weight.mul_(40)  # the prompt matters, as it does in a trained decoder
    return Checkpoint(model.eval().requires_grad_(False), "0" * 64)


@pytest.fixture
def caches(tmp_path: Path) -> Callable[..., EmbeddingCache]:
    def make(owner: str = "sam", shape: tuple[int, ...] = (256, 64, 64), **options: int) -> EmbeddingCache:
        return EmbeddingCache(owner, shape, folder=tmp_path / "cache", **options)

    return make


def make_image(seed: int = 0, shape: tuple[int, int] = (120, 90)) -> np.ndarray:
    image = np.random.default_rng(seed).random(shape, np.float32)
    image[20:60, 30:70] += 1
    return image / 2


def region(shape: tuple[int, int] = (120, 90)) -> tuple[np.ndarray, np.ndarray]:
    """Heat and mask of two regions."""
    heat = np.zeros(shape, np.float32)
    heat[20:60, 30:70], heat[90:110, 5:20] = 0.8, 0.6
    heat[40, 50] = heat[100, 10] = 1.0
    return heat, heat > 0.5


def test_mobile_sams_published_tensors_compute_what_its_module_computes(tmp_path: Path) -> None:
    state = mobile_sam_state()
    loaded = load_checkpoint(write_mobile_sam(tmp_path / "mine.pt"), "mine", CPU)
    pixels = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        ours = loaded.model.image_encoder(pixels)
        assert torch.allclose(ours, mobile_sam_features(state, pixels), atol=1e-4)
        assert ours.shape == (1, 256, 6, 8)
    assert loaded.family is SAM


def test_the_published_classifier_is_dropped_and_nothing_else() -> None:
    state = mobile_sam_state()
    ours, dropped = published_to_ours(state)
    assert {name.split(".")[1] for name in dropped} == {"norm_head", "head"}
    encoder = {n.removeprefix("image_encoder.") for n in ours if n.startswith("image_encoder.")}
    assert encoder == set(TinyVitEncoder().state_dict())
    assert len(ours) + len(dropped) == len(state)


def test_a_vit_file_is_recognised_by_its_shapes(tmp_path: Path) -> None:
    loaded = load_checkpoint(write_vit(tmp_path / "medsam_mine.pth", "vit_b"), "medsam_mine", CPU)
    assert len(loaded.model.image_encoder.blocks) == 12
    assert loaded.model.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert loaded.family is MEDSAM


@pytest.mark.parametrize("kind", ["missing", "extra", "misshaped"])
def test_keys_that_do_not_fit_are_listed(kind: str, tmp_path: Path) -> None:
    state = mobile_sam_state()
    key = "image_encoder.layers.1.blocks.0.mlp.fc1.bias"
    if kind == "extra":
        state["image_encoder.layers.9.new"] = torch.zeros(3)
    else:
        moved = state.pop(key)
        if kind == "misshaped":
            state[key] = moved[:-1]
    torch.save(state, tmp_path / "mine.pt")
    with pytest.raises(EncoderError, match=kind) as refusal:
        load_checkpoint(tmp_path / "mine.pt", "mine", CPU)
    assert "stages.1.blocks.0.mlp.fc1.bias" in str(refusal.value) or kind == "extra"


def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    def refusal(name: str, content: bytes | dict[str, object]) -> str:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(EncoderError) as error:
            load_checkpoint(path, path.stem, CPU)
        return str(error.value)

    whole = write_mobile_sam(tmp_path / "whole.pt").read_bytes()
    messages = [
        refusal("page.pth", b"<!DOCTYPE html><html>log in</html>"),
        refusal("cut.pt", whole[: len(whole) // 2]),
        refusal("code.pt", {"a": print}),
        refusal("other.pt", {"weight": torch.zeros(2)}),
        refusal("sam_vit_b_01ec64.pth", whole),
    ]
    assert all("\n" not in line for line in messages)
    for line, reason in zip(
        messages, ["web page", "cut off", "code in a checkpoint", "no SAM file", "375,042,383"], strict=True
    ):
        assert reason in line
    with pytest.raises(EncoderError, match="cannot be read"):
        load_checkpoint(tmp_path / "gone.pt", "gone", CPU)


@pytest.mark.parametrize("prompts", [("box",), ("point",), ("box", "point")])
@pytest.mark.parametrize("shape", [(120, 90), (110, 300)])
def test_the_mask_is_what_segment_anythings_own_predictor_draws(
    prompts: tuple[PromptKind, ...],
    shape: tuple[int, int],
    glancing: Checkpoint,
    caches: Callable[..., EmbeddingCache],
) -> None:
    image, (heat, mask) = make_image(shape=shape), region(shape)
    boxes = [Box(30, 20, 70, 60), Box(5, 90, 20, 110)]
    ours = SamRefiner(glancing, "own", prompts, caches()).refine(image, heat, mask, boxes)
    predictor = SamPredictor(glancing.model)
    predictor.set_image(np.repeat(np.rint(image * 255).astype(np.uint8)[..., None], 3, axis=2))
    theirs = np.zeros_like(mask)
    for box, peak in zip(boxes, [(50, 40), (10, 100)], strict=False):
        drawn, _, _ = predictor.predict(
            point_coords=np.array([peak]) if "point" in prompts else None,
            point_labels=np.array([1]) if "point" in prompts else None,
            box=np.array([box.left, box.top, box.right, box.bottom]) if "box" in prompts else None,
            multimask_output=False,
        )
        theirs |= drawn[0]
    assert 0.01 < theirs.mean() < 0.99
    assert (ours != theirs).mean() < 2e-4  # embeddings are cached in half precision
    elsewhere = SamRefiner(glancing, "own", prompts, caches()).refine(image, heat[::-1], mask[::-1], [])
    assert (ours != elsewhere).mean() > 2e-4


@pytest.mark.parametrize("shape", [(60, 97), (700, 512), (1600, 1500), (1024, 1024)])
def test_masks_are_enlarged_as_by_interpolation_of_the_whole_image(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    coarse = torch.randn(4, 1, 12, 12)  # the first: found all over the image
    coarse[1, 0, 3:] = -5  # at its upper border alone
    coarse[2] = -5  # nowhere
    coarse[3, 0, :, :5] = coarse[3, 0, :4] = -5  # within
    logits = F.interpolate(coarse, (256, 256), mode="bicubic")
    frame = [max(1, round(side * 1024 / max(shape))) for side in shape]
    square = F.interpolate(logits, (1024, 1024), mode="bilinear")[..., : frame[0], : frame[1]]
    whole = F.interpolate(square, shape, mode="bilinear")[:, 0].numpy()
    masks = to_image(logits, Frame(*frame, 1024), shape)
    sure = np.abs(whole) > 1e-4  # the two round otherwise
    np.testing.assert_array_equal(masks[sure], whole[sure] > 0)
    assert masks.any(axis=(1, 2)).tolist() == [True, True, False, True]


def test_a_mask_prompt_is_taken_and_changes_the_answer(
    glancing: Checkpoint, caches: Callable[..., EmbeddingCache]
) -> None:
    image, (heat, mask) = make_image(), region()
    without, with_mask = (
        SamRefiner(glancing, "own", prompts, caches()).refine(image, heat, mask, [])
        for prompts in (("box",), ("box", "mask"))
    )
    assert (without != with_mask).any()


def test_prompts_that_cannot_serve_are_refused(glancing: Checkpoint) -> None:
    with pytest.raises(UsageError, match="box or a point"):
        SamRefiner(glancing, "own", ("mask",))
    with pytest.raises(UsageError, match="boxes alone"):
        SamRefiner(Checkpoint(glancing.model, "0", MEDSAM), "medsam", ("point",))


def test_boxes_of_another_frame_are_clipped_to_the_image_or_skipped(
    glancing: Checkpoint, caches: Callable[..., EmbeddingCache]
) -> None:
    image, (heat, mask) = make_image(), region()
    refiner = SamRefiner(glancing, "own", ("box",), caches())
    assert (refiner.refine(image, heat, mask, [Box(900, 900, 950, 950)]) == mask).all()
    clipped = refiner.refine(image, heat, mask, [Box(-5, -5, 4_000, 4_000)])
    assert (clipped == refiner.refine(image, heat, mask, [Box(0, 0, 90, 120)])).all()


def test_concurrent_requests_get_their_own_answers_and_each_image_is_embedded_once(
    glancing: Checkpoint, caches: Callable[..., EmbeddingCache]
) -> None:
    heat, mask = region()
    images = [make_image(seed) for seed in range(4)]
    alone = [SamRefiner(glancing, "a", ("box",), caches("a")).refine(f, heat, mask, []) for f in images]
    shared = SamRefiner(glancing, "b", ("box",), caches("b"))
    glancing.model.image_encoder.calls.clear()
    start = threading.Barrier(8)

    def request(number: int) -> np.ndarray:
        if number < 8:
            start.wait()
        return shared.refine(images[number % 4], heat, mask, [])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(request, range(16)))
    assert all((answer == alone[n % 4]).all() for n, answer in enumerate(answers))
    assert glancing.model.image_encoder.calls == [1] * 4
    assert len({answer.tobytes() for answer in alone}) == 4


def test_medsam_sees_the_whole_square_from_darkest_to_brightest(
    glancing: Checkpoint, caches: Callable[..., EmbeddingCache]
) -> None:
    heat, mask = region()
    refiner = SamRefiner(Checkpoint(glancing.model, "0", MEDSAM), "medsam", ("box",), caches("m"))
    seen = []
    hook = glancing.model.image_encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        refined = refiner.refine(make_image() * 0.5 + 0.2, heat, mask, [])
    finally:
        hook.remove()
    assert refined.shape == mask.shape
    assert seen[0].shape == (1, 3, 1024, 1024)
    assert seen[0].min() < 0.02
    assert 0.98 < seen[0].max() <= 1
    assert seen[0][0, :, -1, -1].max() > 0  # no padding in the corner


def test_the_cache_keeps_within_its_bound_and_drops_the_oldest(caches: Callable[..., EmbeddingCache]) -> None:
    cache = caches(shape=(100,), limit_bytes=3_000)
    for number in range(20):
        cache.get(f"{number:064x}", lambda: np.ones(100, np.float32))
    files = sorted(cache.folder.iterdir())
    assert 2 <= len(files) < 20
    assert sum(file.stat().st_size for file in files) <= 3_000
    assert files[-1].name == f"{19:064x}.npy"


def test_a_cached_embedding_is_read_and_a_damaged_one_is_computed_again(
    caches: Callable[..., EmbeddingCache],
) -> None:
    cache = caches(shape=(3,))
    first = cache.get("a", lambda: np.array([1, 2, 3], np.float32))
    assert first.dtype == np.float16
    again = cache.get("a", lambda: pytest.fail("it was cached"))
    assert (again == first).all()
    (cache.folder / "a.npy").write_bytes(b"\x93NUMPY half")
    assert (cache.get("a", lambda: np.array([4, 5, 6], np.float32)) == [4, 5, 6]).all()
    np.save(cache.folder / "a.npy", np.zeros(7, np.float16))
    assert (cache.get("a", lambda: np.array([7, 8, 9], np.float32)) == [7, 8, 9]).all()


def test_a_full_disk_is_no_failure(
    caches: Callable[..., EmbeddingCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    cache = caches(shape=(3,))
    monkeypatch.setattr("retrieval.localize.refine.embedding_cache.np.save", full)
    assert (cache.get("a", lambda: np.ones(3, np.float32)) == 1).all()
    assert list(cache.folder.iterdir()) == []


def test_a_computation_that_fails_fails_for_all_who_wait_and_may_be_tried_again(
    caches: Callable[..., EmbeddingCache],
) -> None:
    cache, entered = caches(shape=(3,)), threading.Event()

    def fail() -> np.ndarray:
        entered.set()
        waiting.wait(DEADLINE_SECONDS)
        raise RuntimeError("out of memory")

    waiting = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "a", fail)
        entered.wait(DEADLINE_SECONDS)
        second = pool.submit(cache.get, "a", lambda: np.ones(3, np.float32))
        waiting.set()
        with pytest.raises(RuntimeError, match="memory"):
            first.result()
        assert isinstance(second.exception(), RuntimeError | None)
    assert (cache.get("a", lambda: np.ones(3, np.float32)) == 1).all()


def test_without_a_checkpoint_the_random_walker_serves(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "packaged_path", lambda file: None)
    assert open_refiner("none") is None
    chosen = open_refiner("sam")
    assert chosen is not None
    assert chosen.name == "random-walker"
    assert open_refiner("random-walker").name == "random-walker"  # type: ignore[union-attr]
    monkeypatch.delenv("SIMILARITY_REFINE", raising=False)
    settings.cache_clear()
    assert open_refiner().name == "random-walker"  # type: ignore[union-attr]
    monkeypatch.setenv("SIMILARITY_REFINE", "none")
    settings.cache_clear()
    assert open_refiner() is None
    monkeypatch.setenv("SIMILARITY_REFINE", "magic")
    settings.cache_clear()
    with pytest.raises(UsageError, match=r"a setting cannot be used: SIMILARITY_REFINE \("):
        open_refiner()


@pytest.mark.parametrize("choice", ["", "sam:", "walker", "none:x", "random-walker:9"])
def test_a_refiner_of_another_name_is_refused(choice: str) -> None:
    with pytest.raises(UsageError, match="random-walker or none"):
        open_refiner(choice)


def test_a_missing_checkpoint_is_reported_with_its_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_OFFLINE", "1")
    with pytest.raises(EncoderError, match=r"mobile_sam\.pt"):
        open_refiner("sam:mobile-sam")
    with pytest.raises(EncoderError, match="cannot be read"):
        open_refiner("sam:/nowhere/sam.pth")


def test_a_checkpoint_by_path_serves_under_its_file_name(home: Path, tmp_path: Path) -> None:
    chosen = open_refiner(f"sam:{write_mobile_sam(tmp_path / 'ours.pt')}", device="cpu")
    assert chosen is not None
    assert chosen.name == "sam:ours"
    image, (heat, mask) = make_image(), region()
    assert chosen.refine(image, heat, mask, []).any()
    assert len(list((home / "cache" / "sam").glob("*/*.npy"))) == 1
