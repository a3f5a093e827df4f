"""An encoder's promises: vectors that depend on nothing but the item, and plain open_clip inside."""

import threading
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from corpus.errors import EncoderError
from tests.encoders import build_tiny_encoder
from trainer.runtime.encoder import Encoder

TEXTS = [
    "No pleural effusion or pneumothorax.",
    "Heart size is normal.",
    "Large left pleural effusion with consolidation in the right lower lobe, cannot exclude pneumonia.",
]
LONG = " ".join(TEXTS * 6)


def random_images(count: int, seed: int = 0) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    shapes = rng.integers(20, 120, (count, 2))
    return [rng.random((h, w), dtype=np.float32) for h, w in shapes]


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = (left.astype(np.float64) * right).sum(axis=1)
    return product


def test_rows_are_unit_vectors_of_the_encoders_dimension(encoder: Encoder) -> None:
    for rows in (encoder.encode_images(random_images(3)), encoder.encode_texts([*TEXTS, LONG])):
        assert rows.dtype == np.float32
        assert rows.shape[1] == encoder.dim
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert encoder.encode_images([]).shape == (0, encoder.dim)
    assert encoder.encode_texts([]).shape == (0, encoder.dim)


def test_an_image_has_the_same_vector_alone_and_in_any_batch(encoder: Encoder) -> None:
    images = random_images(7)
    together = encoder.encode_images(images, batch_size=4)
    alone = np.concatenate([encoder.encode_images([image]) for image in images])
    assert cosines(together, alone).min() >= 1 - 1e-6


def test_a_text_has_the_same_vector_alone_and_in_any_batch(encoder: Encoder) -> None:
    texts = [*TEXTS, LONG, "edema"]
    together = encoder.encode_texts(texts, batch_size=3)
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    assert cosines(together, alone).min() >= 1 - 1e-6


def test_framed_images_give_the_vectors_of_the_images(encoder: Encoder) -> None:
    images = random_images(3)
    framed = np.stack([encoder.framing.apply(image) for image in images])
    np.testing.assert_array_equal(encoder.encode_framed(framed), encoder.encode_images(images))


def test_a_long_text_is_every_window_of_it_and_is_counted(encoder: Encoder) -> None:
    one, many = encoder.count_windows([TEXTS[0], LONG])
    assert one == 1
    assert many > 1
    changed_end = LONG.removesuffix("pneumonia.") + "pneumothorax."
    first, second = encoder.encode_texts([LONG, changed_end])
    assert float(first @ second) < 1 - 1e-7  # the end of the text is heard
    for windows in encoder._tokenizer.windows([LONG, "lungs" * 200]):
        assert max(map(len, windows)) <= encoder.context_length


def test_windows_hold_every_token_once_and_begin_with_a_word(encoder: Encoder) -> None:
    tokenizer = encoder._tokenizer
    text = "the radiograph shows cardiomegaly and unremarkable mediastinal contours " * 9
    (windows,) = tokenizer.windows([text])
    plain = tokenizer._tokenizer.encode(text, add_special_tokens=False)
    assert [token for window in windows for token in window[1:-1]] == plain.ids
    for window in windows:
        assert not tokenizer._tokenizer.id_to_token(window[1]).startswith("##")


@pytest.mark.parametrize("empty", ["", "   ", "\n\t"])
def test_an_empty_text_is_refused_by_its_position(encoder: Encoder, empty: str) -> None:
    with pytest.raises(EncoderError, match="text 1 is empty"):
        encoder.encode_texts(["edema", empty])


def test_an_image_that_is_none_is_refused_by_its_position(encoder: Encoder) -> None:
    good = np.zeros((30, 30), np.float32)
    broken = good.copy()
    broken[3, 3] = np.nan
    with pytest.raises(EncoderError, match="image 1 holds values that are not finite"):
        encoder.encode_images([good, broken])
    with pytest.raises(EncoderError, match="image 33 has shape"):
        encoder.encode_images([good] * 33 + [np.zeros((3, 30, 30), np.float32)])
    with pytest.raises(EncoderError, match="framed to"):
        encoder.encode_framed(np.zeros((1, 10, 10), np.float32))


def test_the_mean_of_patch_vectors_is_the_image_vector(encoder: Encoder) -> None:
    """Before normalisation, for an averaging backbone with a linear projection."""
    from trainer.runtime.feature_maps import patch_features

    framed = np.stack([encoder.framing.apply(image) for image in random_images(4)])
    with torch.inference_mode():
        patches = (
            patch_features(encoder.model, encoder.torch_towers().inputs(framed)).mean(dim=(1, 2)).numpy()
        )
    patches /= np.linalg.norm(patches, axis=1, keepdims=True)
    assert cosines(patches, encoder.encode_framed(framed)).min() >= 1 - 1e-5


def test_patches_say_which_of_them_lie_in_the_image(encoder: Encoder) -> None:
    assert len(encoder.encode_patches([]).vectors) == 0
    patches = encoder.encode_patches([np.ones((64, 64), np.float32), np.ones((20, 64), np.float32)])
    n, height, width, dim = patches.vectors.shape
    assert (n, dim) == (2, encoder.dim)
    np.testing.assert_allclose(np.linalg.norm(patches.vectors, axis=-1), 1, atol=1e-5)
    assert patches.inside(0).all()
    assert patches.inside(1).shape == (height, width)
    assert patches.content_boxes[1].height == 20
    assert patches.content_boxes[1].top == 22


@pytest.mark.parametrize("trunk", ["test_vit", "test_resnet", "test_convnext"])
def test_every_kind_of_backbone_gives_its_grid(trunk: str) -> None:
    from trainer.runtime.clip_model import build_model
    from trainer.runtime.feature_maps import patch_features

    text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 160, "timm_model_name": trunk, "timm_proj": "linear", "timm_pool": "avg"}
    model = build_model({"embed_dim": 12, "custom_text": True, "vision_cfg": vision, "text_cfg": text}).eval()
    pixels = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        patches = patch_features(model, pixels)
        assert patches.shape[0] == 2
        assert patches.shape[1] == patches.shape[2] > 1
        assert patches.shape[3] == 12
        if trunk != "test_vit":  # its norm comes after pooling, so only the direction of the parts is shared
            pooled = model.encode_image(pixels)  # type: ignore[operator]
            if trunk == "test_resnet":
                torch.testing.assert_close(patches.mean(dim=(1, 2)), pooled, atol=1e-5, rtol=1e-4)


def test_plain_open_clip_reads_a_moved_folder_to_the_same_vectors(tmp_path: Path) -> None:
    made = build_tiny_encoder(tmp_path / "made", seed=3)
    moved = made.rename(tmp_path / "moved")
    encoder = Encoder.load(moved)
    plain, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{moved}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{moved}")
    plain.eval()
    with torch.inference_mode():
        texts = plain.encode_text(tokenizer(TEXTS), normalize=True).numpy()
        np.testing.assert_allclose(texts, encoder.encode_texts(TEXTS), atol=1e-5)
        framed = np.stack([encoder.framing.apply(image) for image in random_images(3)])
        images = plain.encode_image(encoder.torch_towers().inputs(framed), normalize=True).numpy()
        np.testing.assert_allclose(images, encoder.encode_framed(framed), atol=1e-5)
        grey = [np.asarray(image * 255, np.uint8) for image in random_images(3)]
        own = torch.stack([preprocess(Image.fromarray(image)) for image in grey])
        theirs = plain.encode_image(own, normalize=True).numpy()
    ours = encoder.encode_images([image.astype(np.float32) / 255 for image in grey])
    assert cosines(theirs, ours).min() >= 0.999


def test_the_fingerprint_depends_on_content_and_not_on_the_folder(tmp_path: Path) -> None:
    first = Encoder.load(build_tiny_encoder(tmp_path / "a", seed=1))
    moved = Encoder.load((tmp_path / "a").rename(tmp_path / "elsewhere"))
    other = Encoder.load(build_tiny_encoder(tmp_path / "b", seed=2))
    assert len(first.fingerprint) == 64
    assert first.fingerprint == moved.fingerprint == first.record["fingerprint"]
    assert first.fingerprint != other.fingerprint


def test_the_stored_configuration_names_the_present_folder(tmp_path: Path) -> None:
    build_tiny_encoder(tmp_path / "a")
    moved = (tmp_path / "a").rename(tmp_path / "b")
    Encoder.load(moved)
    assert str(moved) in (moved / "open_clip_config.json").read_text()
    Encoder.load(moved)  # adopting it was no edit


def test_threads_share_an_encoder(encoder: Encoder) -> None:
    expected = encoder.encode_texts(TEXTS)
    answers: list[NDArray[np.float32]] = []
    threads = [threading.Thread(target=lambda: answers.append(encoder.encode_texts(TEXTS))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    for answer in answers:
        np.testing.assert_allclose(answer, expected, atol=1e-6)


def test_an_unknown_device_is_one_clear_line(encoder_folder: Path) -> None:
    with pytest.raises(EncoderError, match="device 'abacus' cannot be used"):
        Encoder.load(encoder_folder, device="abacus")
