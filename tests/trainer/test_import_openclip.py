"""Models published in open_clip's layout become encoders here, and give open_clip's own vectors."""

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from corpus.errors import EncoderError
from similarity.cli.encoders import encoders
from tests.encoders import build_tiny_encoder
from trainer.models.architecture import find_architecture, list_architectures
from trainer.models.importers.openclip import import_folder, read_folder
from trainer.runtime.clip_model import build_model
from trainer.runtime.encoder import Encoder
from trainer.runtime.encoder_folder import CARD, RECORD, WEIGHTS, with_paths
from trainer.runtime.tokens import WindowTokenizer

TEXTS = ["no pleural effusion", "large left nodule", "the lungs are clear"]
IMAGES = [np.random.default_rng(n).random((64, 64)).astype(np.float32) for n in range(3)]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder as a hub gives it: open_clip's files, nothing of ours, the text tower named elsewhere."""
    folder = build_tiny_encoder(tmp_path / "published")
    (folder / RECORD).unlink()
    (folder / CARD).unlink()
    config = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps(with_paths(config, "someone/some-bert")))
    state = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    state["text.transformer.embeddings.position_ids"] = torch.arange(128)[None]
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    return folder


def test_an_imported_model_gives_open_clips_own_vectors(published: Path, home: Path) -> None:
    encoder = Encoder.load(import_folder(published, "theirs"), device="cpu")
    config = json.loads((published / "open_clip_config.json").read_text())
    model = build_model(with_paths(config, str(published))["model_cfg"]).eval()
    state = torch.load(published / "open_clip_pytorch_model.bin", weights_only=True)
    del state["text.transformer.embeddings.position_ids"]
    model.load_state_dict(state)
    tokens = open_clip.get_tokenizer(f"local-dir:{encoder_folder(home)}")(TEXTS)
    with torch.no_grad():
        texts = model.encode_text(tokens, normalize=True)  # type: ignore[operator]
        pixels = (torch.from_numpy(np.stack(IMAGES))[:, None].expand(-1, 3, -1, -1) - 0.5) / 0.25
        images = model.encode_image(pixels, normalize=True)  # type: ignore[operator]
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(IMAGES), images, atol=1e-5)
    assert encoder.record["plain_open_clip"] is True


def encoder_folder(home: Path) -> Path:
    return home / "encoders" / "theirs"


def test_the_command_imports_and_its_dry_run_only_tells(published: Path, home: Path) -> None:
    result = CliRunner().invoke(encoders, ["import", str(published), "--as", "theirs", "--dry-run"])
    assert "keys placed" in result.output
    assert "embeddings.position_ids" in result.output
    assert not encoder_folder(home).exists()
    done = CliRunner().invoke(encoders, ["import", str(published), "--as", "theirs"], catch_exceptions=False)
    assert Path(done.stdout.strip()) == encoder_folder(home)
    listed = json.loads(CliRunner().invoke(encoders, ["list", "--json"]).stdout)
    assert [encoder["name"] for encoder in listed["encoders"]] == ["theirs"]


def test_a_folder_that_cannot_be_imported_is_refused_with_the_reason(
    published: Path, home: Path, tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match=r"open_clip_config\.json"):
        import_folder(tmp_path, "none")
    state = torch.load(published / "open_clip_pytorch_model.bin", weights_only=True)
    broken = {**state, "text.proj.weight": torch.zeros(1, 1)}
    del broken["visual.trunk.conv_stem.weight"]
    torch.save(broken, published / "open_clip_pytorch_model.bin")
    with pytest.raises(
        EncoderError, match=r"1 missing:\n  visual\.trunk\.conv_stem\.weight\n1 misshaped:\n  text\.proj"
    ):
        import_folder(published, "broken")
    (published / "config.json").unlink()
    with pytest.raises(EncoderError, match=r"lacks config\.json.*someone/some-bert"):
        read_folder(published)
    (published / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(EncoderError, match="holds no weights"):
        read_folder(published)


# -- open_clip's own text tower


OWN_TEXT = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module", params=["plain", "custom"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a hub gives it, of a CLIP that is open_clip's on both sides."""
    folder = tmp_path_factory.mktemp("clip")
    cfg = {**OWN_TEXT, **({"custom_text": True} if request.param == "custom" else {})}
    torch.manual_seed(0)
    torch.save(build_model(cfg).state_dict(), folder / "open_clip_pytorch_model.bin")
    preprocessing = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": cfg, "preprocess_cfg": preprocessing})
    )
    return folder


def test_a_clip_with_open_clips_own_text_tower_gives_open_clips_vectors(clip: Path, home: Path) -> None:
    folder = import_folder(clip, "clip").rename(home / "moved")
    encoder = Encoder.load(folder, device="cpu")
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.48, 0.46, 0.41], [0.27, 0.26, 0.28]))
    images = [image[:32, :32] for image in IMAGES]
    with torch.no_grad():
        texts = model.encode_text(tokens, normalize=True)
        pixels = (torch.from_numpy(np.stack(images))[:, None].expand(-1, 3, -1, -1) - mean) / std
        vectors = model.encode_image(pixels, normalize=True)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(images), vectors, atol=1e-5)
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), alone, atol=1e-6)
    long = " ".join(TEXTS * 12)
    assert encoder.count_windows([long]) == [3]
    assert np.isfinite(encoder.encode_texts([long])).all()


@cache
def own_words() -> tuple[WindowTokenizer, open_clip.tokenizer.SimpleTokenizer]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "open_clip_config.json").write_text(json.dumps({"model_cfg": OWN_TEXT}))
        return WindowTokenizer.of_folder(Path(folder)), open_clip.tokenizer.SimpleTokenizer()


def test_a_text_cannot_end_itself_early() -> None:
    ours, plain = own_words()
    (window,) = ours.windows(["effusion <end_of_text> none"])[0]
    assert window.count(plain.eot_token_id) == 1


@given(st.text(st.characters(max_codepoint=0x24F) | st.sampled_from("–—…µ≥≤“”’°"), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
@example("the heart's 12-cm, it'll grow é\u0301 \u00a0 naïve 5½ ß İ")
def test_words_are_tokenized_as_by_open_clips_own_tokenizer(text: str) -> None:
    ours, plain = own_words()
    expected = [plain.sot_token_id, *plain.encode(text), plain.eot_token_id]
    if len(expected) == 2:
        with pytest.raises(EncoderError, match="text 0 is empty"):
            ours.windows([text])
        return
    windows = ours.windows([text])[0]
    assert [t for window in windows for t in window[1:-1]] == expected[1:-1]
    assert all((window[0], window[-1]) == (expected[0], expected[-1]) for window in windows)


# -- the shapes of others


def test_biomedclips_shape_has_the_published_tensors_and_parameters(tmp_path: Path) -> None:
    shape = find_architecture("biomedclip")
    (tmp_path / "config.json").write_text(json.dumps(shape.text_tower))
    with torch.device("meta"):
        model = build_model(with_paths({"model_cfg": shape.model_cfg}, str(tmp_path))["model_cfg"])
    assert len(model.state_dict()) == 351
    assert sum(parameter.numel() for parameter in model.parameters()) == 195_902_721


@pytest.mark.parametrize("name", ["medclip-swin", "medclip-resnet50", "biomedclip"])
def test_the_papers_shapes_are_architectures_to_train(name: str, tmp_path: Path) -> None:
    assert name in list_architectures()
    shape = find_architecture(name)
    (tmp_path / "config.json").write_text(json.dumps(shape.text_tower))
    with torch.device("meta"):
        model = build_model(with_paths({"model_cfg": shape.model_cfg}, str(tmp_path))["model_cfg"])
    weights = model.state_dict()
    assert weights["visual.head.proj.weight"].shape[0] == 512
    assert weights["logit_scale"].shape == ()
