"""MedCLIP's published checkpoints: our towers give what the published modules give, or a refusal."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizerFast, SwinConfig, SwinModel

from corpus.errors import EncoderError
from trainer.models.importers.medclip import import_folder, read_checkpoint
from trainer.runtime.encoder import Encoder

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *["no", "pleural", "effusion", "the", "heart", "is", "large", ".", "left"],
]
TEXTS = ["no pleural effusion", "the heart is large .", "left pleural effusion . no no no no no the heart"]
IMAGES = [np.random.default_rng(n).random((224, 224)).astype(np.float32) for n in range(2)]
MEAN, STD = 0.5862785803043838, 0.27950088968644304


class Published:
    """The published modules with random weights, and their own forward pass."""

    def __init__(self, kind: str, *, older: bool = False) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.kind, self.older = kind, older
            self.vision: nn.Module
            if kind == "swin":
                self.vision = SwinModel(SwinConfig())  # Swin-tiny is its default shape
                self.image_head = nn.Linear(768, 512, bias=False)
            else:
                self.vision = torchvision.models.resnet50()
                self.vision.fc = nn.Linear(2048, 512, bias=False)
            self.shape = BertConfig(
                vocab_size=len(WORDS), hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
                intermediate_size=128, max_position_embeddings=96,
            )  # fmt: skip
            self.text = BertModel(self.shape)
            self.text_head = nn.Linear(64, 512, bias=older)
            for module in (self.vision, self.text):
                module.eval()

    def state(self) -> dict[str, Tensor]:
        """Everything under the names that the files have."""
        state = {f"vision_model.model.{as_published(k)}": v for k, v in self.vision.state_dict().items()}
        state |= {f"text_model.model.{key}": value for key, value in self.text.state_dict().items()}
        state["text_model.model.embeddings.position_ids"] = torch.arange(96)[None]
        if self.kind == "swin":
            state["vision_model.projection_head.weight"] = self.image_head.weight
            for stage, blocks in enumerate((2, 2, 6, 2)):
                for block in range(blocks):
                    position = f"encoder.layers.{stage}.blocks.{block}.attention.self.relative_position_index"
                    state[f"vision_model.model.{position}"] = torch.zeros(49, 49, dtype=torch.int64)
        state |= {f"text_model.projection_head.{k}": v for k, v in self.text_head.state_dict().items()}
        state["logit_scale"] = torch.tensor(2.5)
        return {key: value.detach().clone() for key, value in state.items()}

    def images(self) -> Tensor:
        """(n, 512) unit rows of `PICTURES`."""
        pixels = (torch.from_numpy(np.stack(IMAGES))[:, None].expand(-1, 3, -1, -1) - MEAN) / STD
        with torch.no_grad():
            if self.kind != "swin":
                return F.normalize(self.vision(pixels), dim=-1)
            return F.normalize(self.image_head(self.vision(pixels).pooler_output), dim=-1)

    def texts(self) -> Tensor:
        """(n, 512) unit rows of `TEXTS`, each encoded alone."""
        rows = []
        for text in TEXTS:
            ids = torch.tensor([[2, *(WORDS.index(word) for word in text.split()), 3]])
            with torch.no_grad():
                out = self.text(ids, output_hidden_states=True)
                hidden = torch.stack([out.hidden_states[layer] for layer in (1, 2, -1)])
                pooled = out.pooler_output if self.older else hidden.mean(dim=(0, 2))
                rows.append(F.normalize(self.text_head(pooled), dim=-1))
        return torch.cat(rows)


def as_published(key: str) -> str:
    """The name that a Swin key had when MedCLIP was published."""
    renamed = {
        "attention.q_proj": "attention.self.query",
        "attention.k_proj": "attention.self.key",
        "attention.v_proj": "attention.self.value",
        "attention.o_proj": "attention.output.dense",
        "attention.relative_position_bias.": "attention.self.",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    for now, then in renamed.items():
        key = key.replace(now, then)
    return key


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a folder as a user has it after downloading: checkpoint, the text tower's shape, its words."""

    def write(published: Published, state: dict[str, Tensor] | None = None, *, zipped: bool = False) -> Path:
        folder = tmp_path / "downloaded"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({**published.shape.to_dict(), "model_type": "bert"}))
        vocabulary = tmp_path / "vocab.txt"
        vocabulary.write_text("\n".join(WORDS) + "\n")
        BertTokenizerFast(str(vocabulary)).save_pretrained(folder)
        file = folder / "pytorch_model.bin"
        torch.save(published.state() if state is None else state, file)
        if zipped:
            with zipfile.ZipFile(folder / "medclip-pretrained.zip", "w") as archive:
                archive.write(file, "pytorch_model.bin")
            file.unlink()
        return folder

    return write


@pytest.fixture(scope="module")
def swin() -> Published:
    return Published("swin")


@pytest.fixture(scope="module")
def resnet() -> Published:
    return Published("resnet50")


@pytest.mark.parametrize("kind", ["swin", "resnet50"])
def test_an_imported_checkpoint_gives_the_vectors_of_the_published_modules(
    kind: str, write: Write, home: Path, request: pytest.FixtureRequest
) -> None:
    published: Published = request.getfixturevalue("swin" if kind == "swin" else "resnet")
    folder = import_folder(write(published, zipped=kind == "swin"), f"medclip-{kind}")
    assert folder == home / "encoders" / f"medclip-{kind}"
    encoder = Encoder.load(folder, device="cpu")
    np.testing.assert_allclose(encoder.encode_images(IMAGES), published.images(), atol=1e-4)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), published.texts(), atol=1e-4)
    assert encoder.record["plain_open_clip"] is False
    assert encoder.record["pooling"] == "layers 1, 2 and last"
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    assert (alone * encoder.encode_texts(TEXTS)).sum(axis=1).min() > 1 - 1e-6
    assert encoder.encode_patches(IMAGES[:1]).vectors.shape[-1] == 512


def test_an_older_file_pools_by_berts_own_pooler_and_projects_with_a_bias(write: Write, home: Path) -> None:
    published = Published("resnet50", older=True)
    encoder = Encoder.load(import_folder(write(published), "older"), device="cpu")
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), published.texts(), atol=1e-4)
    np.testing.assert_allclose(encoder.encode_images(IMAGES), published.images(), atol=1e-4)
    assert encoder.record["plain_open_clip"] is False


def test_every_key_that_does_not_fit_is_listed(write: Write, home: Path, resnet: Published) -> None:
    state = resnet.state()
    del state["vision_model.model.conv1.weight"]
    state["vision_model.model.something.else"] = torch.zeros(1)
    state["text_model.projection_head.weight"] = torch.zeros(512, 65)
    state["vision_model.model.bn1.weight"][3] = torch.nan
    folder = write(resnet, state)
    report = read_checkpoint(folder / "pytorch_model.bin", folder).report
    assert report.missing == ("visual.trunk.conv1.weight",)
    assert report.extra == ("visual.trunk.something.else",)
    assert report.misshaped == ("text.proj.weight (512, 65), not (512, 64)",)
    assert report.not_finite == ("visual.trunk.bn1.weight",)
    with pytest.raises(EncoderError) as refused:
        import_folder(folder, "medclip")
    for key in (*report.missing, *report.extra, *report.misshaped, *report.not_finite):
        assert key in str(refused.value)
    assert not (home / "encoders" / "medclip").exists()


def test_a_swin_key_of_no_known_kind_and_a_missing_part_of_a_stack_are_refused(
    write: Write, home: Path, swin: Published
) -> None:
    state = swin.state()
    del state["vision_model.model.encoder.layers.2.blocks.3.attention.self.key.weight"]
    state["vision_model.model.encoder.layers.0.blocks.0.gate.weight"] = torch.zeros(1)
    folder = write(swin, state)
    report = read_checkpoint(folder / "pytorch_model.bin", folder).report
    assert report.missing == ("visual.trunk.layers.2.blocks.3.attn.qkv.weight",)
    assert report.extra == ("vision_model.model.encoder.layers.0.blocks.0.gate.weight",)


class Code:
    """What a hostile file would run."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("content", "result"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"", "is empty"),
        (pickle.dumps({"a": Code()}), "code in a checkpoint is never run|cannot be read as weights"),
    ],
    ids=["page", "empty", "code"],
)
def test_what_is_no_checkpoint_is_refused_in_one_line_and_nothing_in_it_is_run(
    content: bytes,
    result: str,
    write: Write,
    home: Path,
    resnet: Published,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write(resnet)
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(EncoderError, match=result) as refused:
        import_folder(folder, "medclip")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


def test_a_truncated_archive_and_another_models_file_are_named(
    write: Write, home: Path, resnet: Published
) -> None:
    folder = write(resnet, zipped=True)
    archive = folder / "medclip-pretrained.zip"
    archive.write_bytes(archive.read_bytes()[:-5000])
    with pytest.raises(EncoderError, match="may be cut off"):
        import_folder(folder, "medclip")
    archive.unlink()
    with pytest.raises(EncoderError, match="should hold one checkpoint"):
        import_folder(folder, "medclip")
    torch.save({"visual.conv1.weight": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="is not of MedCLIP"):
        import_folder(folder, "medclip")
    (folder / "config.json").unlink()
    torch.save(resnet.state(), folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"lacks the text tower's config\.json"):
        import_folder(folder, "medclip")
