"""Exported graphs: torch's vectors in ONNX Runtime, in a process without torch; damage is refused."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

from corpus.errors import EncoderError
from corpus.images.reader import read_image
from corpus.settings import settings
from corpus.sources import open_source
from similarity.cli.encoders import encoders
from tests.encoders import WORDS, build_tiny_encoder, tiny_levels_shape, tiny_shape
from tests.waiting import DEADLINE_SECONDS
from trainer.models import graphs
from trainer.models.architecture import Architecture, find_architecture
from trainer.models.export import export_encoder
from trainer.models.graphs import add_graphs
from trainer.models.resolve import open_encoder
from trainer.runtime.clip_model import add_text_bias, build_model
from trainer.runtime.encoder import Encoder
from trainer.runtime.graph_towers import GraphTowers, thread_count
from trainer.runtime.torch_towers import TorchTowers
from trainer.train.towers import build_towers

IMAGES = [np.random.default_rng(n).random((50 + n, 64), dtype=np.float32) for n in range(7)]
TEXTS = [
    "Edema.", "No pleural effusion or pneumothorax.", "Heart size is normal.", "stable", "a b c d e f g",
    "Large left pleural effusion with consolidation in the right lower lobe.", WORDS,
]  # fmt: skip


def trunk(name: str, **arguments: Any) -> dict[str, Any]:
    """The tiny shape with another image backbone of arguments of its own."""
    shape = tiny_shape()
    shape["model_cfg"]["vision_cfg"]["timm_model_name"] = "local-dir:."
    shape["image_trunk"] = {"architecture": name, "model_args": arguments}
    return shape


def biomedclip_shape() -> dict[str, Any]:
    """ViT with a class token, and a BERT with two layers after its class token."""
    shape = trunk("vit_base_patch16_224", img_size=64, embed_dim=48, depth=2, num_heads=4)
    shape["model_cfg"]["vision_cfg"]["timm_pool"] = ""
    shape["model_cfg"]["text_cfg"].update(hf_pooler_type="cls_last_hidden_state_pooler", hf_proj_type="mlp")
    return shape


def swin_shape() -> dict[str, Any]:
    """Swin with shifted windows, and MedCLIP's pooling of three text layers."""
    shape = trunk(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, embed_dim=24, depths=[2, 2],
        num_heads=[2, 4],
    )  # fmt: skip
    return with_three_layers(shape)


def resnet_shape() -> dict[str, Any]:
    return with_three_layers(trunk("resnet50", layers=[1, 1, 1, 1]))


def with_three_layers(shape: dict[str, Any]) -> dict[str, Any]:
    shape["model_cfg"]["text_cfg"]["hf_pooler_type"] = "three_layer_mean_pooler"
    shape["text_tower"]["num_hidden_layers"] = 3
    return shape


def build_own_clip(folder: Path) -> Path:
    """An encoder with open_clip's own towers on both sides, which has no vocabulary of its own."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    torch.manual_seed(0)
    preprocessing = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
    architecture = Architecture("own", config, preprocessing)
    return export_encoder(build_model(config).eval(), None, architecture, {}, folder, graphs=True)


def build_with_text_bias(folder: Path) -> Path:
    """MedCLIP's ResNet shape with the bias that its older files have."""
    architecture = Architecture("older", **resnet_shape())
    torch.manual_seed(0)
    towers = build_towers(architecture, texts=lambda: [WORDS] * 3)
    add_text_bias(towers.model)
    return export_encoder(towers.model, towers.tokenizer, architecture, {}, folder, graphs=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("graphs") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A monkeypatch with environment variables that the settings follow."""
    yield monkeypatch
    settings.cache_clear()


def in_torch(folder: Path, runtime: pytest.MonkeyPatch) -> Encoder:
    runtime.setenv("SIMILARITY_RUNTIME", "torch")
    settings.cache_clear()
    encoder = Encoder.load(folder, "cpu")
    runtime.delenv("SIMILARITY_RUNTIME")
    settings.cache_clear()
    assert isinstance(encoder.towers, TorchTowers)
    return encoder


def least_cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """The least cosine of paired vectors along the last axis, in double precision."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(axis=-1) / lengths).min())


def assert_same_vectors(graph: Encoder, plain: Encoder, maps: bool = True) -> None:
    assert isinstance(graph.towers, GraphTowers)
    for count in (1, 2, 7):
        images, texts = IMAGES[:count], TEXTS[:count]
        assert least_cosine(graph.encode_images(images), plain.encode_images(images)) >= 1 - 1e-6
        assert least_cosine(graph.encode_texts(texts), plain.encode_texts(texts)) >= 1 - 1e-6
        if maps:
            ours, theirs = (e.encode_patches(images).vectors for e in (graph, plain))
            assert least_cosine(ours, theirs) >= 1 - 1e-6
            for encoder in (graph, plain):  # one pass gives what two give
                vectors, patches = encoder.encode_images_and_patches(images, batch_size=4)
                assert least_cosine(vectors, encoder.encode_images(images)) >= 1 - 1e-6
                assert least_cosine(patches.vectors, encoder.encode_patches(images).vectors) >= 1 - 1e-6
            backbones = (e.encode_backbone(images) for e in (graph, plain))
            assert least_cosine(*backbones) >= 1 - 1e-6


def test_graphs_of_the_tiny_shape_give_torchs_vectors(folder: Path, runtime: pytest.MonkeyPatch) -> None:
    assert_same_vectors(Encoder.load(folder), in_torch(folder, runtime))


@pytest.mark.parametrize(
    "shape", [tiny_levels_shape, biomedclip_shape, swin_shape], ids=lambda shape: shape.__name__
)
def test_graphs_of_every_shape_give_torchs_vectors(
    shape: Any, tmp_path: Path, runtime: pytest.MonkeyPatch
) -> None:
    built = build_tiny_encoder(tmp_path / "built", shape=shape(), graphs=True)
    assert_same_vectors(Encoder.load(built), in_torch(built, runtime))


def test_graphs_of_a_text_tower_with_bias_give_torchs_vectors(
    tmp_path: Path, runtime: pytest.MonkeyPatch
) -> None:
    built = build_with_text_bias(tmp_path / "built")
    assert_same_vectors(Encoder.load(built), in_torch(built, runtime))


def test_graphs_of_open_clips_own_towers_give_torchs_vectors(
    tmp_path: Path, runtime: pytest.MonkeyPatch
) -> None:
    built = build_own_clip(tmp_path / "own")
    graph, plain = Encoder.load(built), in_torch(built, runtime)
    assert_same_vectors(graph, plain, maps=False)
    for encoder in (graph, plain):
        with pytest.raises(EncoderError, match=r"patches cannot be projected|hold no patches"):
            encoder.encode_patches(IMAGES[:1])
    run_without_torch(built, maps=False)


def test_a_vector_is_the_same_alone_and_in_any_batch(folder: Path) -> None:
    encoder = Encoder.load(folder)
    alone = np.concatenate([encoder.encode_images([image]) for image in IMAGES])
    assert least_cosine(encoder.encode_images(IMAGES, batch_size=3), alone) >= 1 - 1e-6
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    assert least_cosine(encoder.encode_texts(TEXTS, batch_size=3), alone) >= 1 - 1e-6


WITHOUT_TORCH = """
import importlib.abc, sys
import numpy as np

MISSING = {"torch", "torchvision", "open_clip", "transformers", "timm"}

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from corpus.errors import EncoderError
from trainer.models.resolve import open_encoder

folder, out, maps = sys.argv[1:]
encoder = open_encoder(folder)
images = [np.linspace(0, 1, 60 * 64, dtype=np.float32).reshape(60, 64)]
vectors = {"images": encoder.encode_images(images), "texts": encoder.encode_texts(["no edema", "a " * 90])}
if maps == "True":
    vectors["patches"] = encoder.encode_patches(images).vectors
    vectors["backbone"] = encoder.encode_backbone(images)
np.savez(out, **vectors)
try:
    encoder.model
except EncoderError as error:
    assert "needs torch" in str(error), error
else:
    raise AssertionError("torch was imported")
assert not MISSING & set(sys.modules)
"""


def run_without_torch(folder: Path, *, maps: bool) -> dict[str, NDArray[np.float32]]:
    """Encode in a fresh process in which torch and what builds on it cannot be imported."""
    out = folder.parent / "vectors.npz"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(folder), str(out), str(maps)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(out))


def test_an_encoder_runs_where_torch_cannot_be_imported(folder: Path, runtime: pytest.MonkeyPatch) -> None:
    found = run_without_torch(folder, maps=True)
    plain = in_torch(folder, runtime)
    image = [np.linspace(0, 1, 60 * 64, dtype=np.float32).reshape(60, 64)]
    assert least_cosine(found["images"], plain.encode_images(image)) >= 1 - 1e-6
    assert least_cosine(found["texts"], plain.encode_texts(["no edema", "a " * 90])) >= 1 - 1e-6
    assert least_cosine(found["patches"], plain.encode_patches(image).vectors) >= 1 - 1e-6
    assert least_cosine(found["backbone"], plain.encode_backbone(image)) >= 1 - 1e-6


def test_layers_are_those_of_torch_loaded_late(folder: Path) -> None:
    encoder = Encoder.load(folder)
    assert isinstance(encoder.towers, GraphTowers)
    with torch.inference_mode():
        vectors = encoder.model.encode_image(encoder.inputs(IMAGES[:2]))  # type: ignore[operator]
    assert least_cosine(vectors.cpu().numpy(), encoder.encode_images(IMAGES[:2])) >= 1 - 1e-6
    assert encoder.model is encoder.model


# -- the folder


@pytest.mark.parametrize("name", ["graphs/image.onnx", "graphs/patches.onnx", "graphs/text.onnx.data"])
@pytest.mark.parametrize("damage", ["missing", "edited"])
def test_a_damaged_graph_is_refused_and_made_anew(copy: Path, name: str, damage: str) -> None:
    if damage == "missing":
        (copy / name).unlink()
    else:
        content = bytearray((copy / name).read_bytes())
        content[-1] ^= 1
        (copy / name).write_bytes(content)
    with pytest.raises(EncoderError, match=rf"{name}.*run: similarity encoders export"):
        Encoder.load(copy)


def test_the_command_exports_what_is_missing_and_the_fingerprint_stays(copy: Path, folder: Path) -> None:
    record = json.loads((copy / "similarity.json").read_text())
    assert set(record["graphs"]) >= {"graphs/image.onnx", "graphs/patches.onnx", "graphs/text.onnx"}
    assert not set(record["graphs"]) & set(record["files"])
    shutil.rmtree(copy / "graphs")
    del record["graphs"]
    (copy / "similarity.json").write_text(json.dumps(record))
    before = Encoder.load(copy)  # as an encoder of an earlier version
    assert isinstance(before.towers, TorchTowers)
    done = CliRunner().invoke(encoders, ["export", str(copy)], catch_exceptions=False)
    assert done.stdout.strip() == str(copy)
    after = Encoder.load(copy)
    assert isinstance(after.towers, GraphTowers)
    assert before.fingerprint == after.fingerprint == Encoder.load(folder).fingerprint
    made = (copy / "graphs" / "image.onnx").stat().st_mtime_ns
    assert not add_graphs(copy)
    assert (copy / "graphs" / "image.onnx").stat().st_mtime_ns == made
    (copy / "graphs" / "text.onnx").unlink()
    assert add_graphs(copy)
    assert isinstance(Encoder.load(copy).towers, GraphTowers)


def test_an_export_that_stops_before_its_last_step_leaves_a_folder_that_torch_runs(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = graphs._write_record

    def stop(folder: Path, record: dict[str, Any]) -> None:
        if "graphs" in record:
            raise OSError("no space left")
        write(folder, record)

    with monkeypatch.context() as stopped:
        stopped.setattr(graphs, "_write_record", stop)
        with pytest.raises(EncoderError, match="no space left"):
            add_graphs(copy, force=True)
    assert isinstance(Encoder.load(copy).towers, TorchTowers)
    (copy / ".graphs.killed").mkdir()
    assert add_graphs(copy)
    assert isinstance(Encoder.load(copy).towers, GraphTowers)
    assert not list(copy.glob(".graphs.*"))


def test_a_graph_that_gives_other_vectors_is_refused_by_name(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = GraphTowers.texts

    def inexact(towers: GraphTowers, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = exact(towers, tokens)
        rows[-1, 0] += 0.01
        return rows

    monkeypatch.setattr(GraphTowers, "texts", inexact)
    stored = (copy / "similarity.json").read_bytes()
    with pytest.raises(EncoderError, match=r"graphs/text\.onnx does not give torch's vectors: cosine 0\.9"):
        add_graphs(copy, force=True)
    assert (copy / "similarity.json").read_bytes() == stored
    assert isinstance(Encoder.load(copy).towers, GraphTowers)  # the earlier graphs remain


def test_without_the_exporter_an_encoder_is_written_and_says_how_to_get_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(graphs, "_NEEDED", ("onnx", "a_package_that_is_missing"))
    built = build_tiny_encoder(tmp_path / "built", graphs=True)
    assert "needs a_package_that_is_missing: pip install 'similarity-engine[train]'" in caplog.text
    assert not (built / "graphs").exists()
    assert isinstance(Encoder.load(built).towers, TorchTowers)
    assert f"similarity encoders export {built}" in caplog.text
    with pytest.raises(EncoderError, match="a_package_that_is_missing"):
        add_graphs(built)


# -- settings


def test_the_runtime_is_that_of_the_settings(
    folder: Path, encoder_folder: Path, runtime: pytest.MonkeyPatch
) -> None:
    runtime.setenv("SIMILARITY_RUNTIME", "onnx")
    settings.cache_clear()
    assert isinstance(open_encoder(folder).towers, GraphTowers)
    with pytest.raises(EncoderError, match=r"SIMILARITY_RUNTIME=onnx.*similarity encoders export"):
        open_encoder(encoder_folder)
    runtime.delenv("SIMILARITY_RUNTIME")
    settings.cache_clear()
    with pytest.raises(EncoderError, match="device 'abacus' cannot be used"):  # a device of torch
        Encoder.load(folder, "abacus")


def test_execution_providers_are_named_and_an_unknown_one_is_one_clear_line(
    folder: Path, runtime: pytest.MonkeyPatch
) -> None:
    for name in ("cpu", "CPUExecutionProvider"):
        runtime.setenv("SIMILARITY_EXECUTION_PROVIDERS", name)
        settings.cache_clear()
        assert Encoder.load(folder, "cuda").encode_texts(["edema"]).shape == (1, 32)
    runtime.setenv("SIMILARITY_EXECUTION_PROVIDERS", "abacus,cpu")
    settings.cache_clear()
    with pytest.raises(EncoderError, match=r"no execution provider 'abacus'; it has .*cpu"):
        Encoder.load(folder)


def test_threads_are_bounded_as_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert thread_count() >= 1


# -- real weights, radiographs and reports


@pytest.mark.real_data
def test_real_radiographs_and_reports_have_the_same_vectors_in_both_runtimes(
    models: Path, data: Path, tmp_path: Path, runtime: pytest.MonkeyPatch
) -> None:
    shape = find_architecture("mobilenetv2-minilm")
    weights = models / "mobilenetv2_100-imagenet" / "model.safetensors"
    towers = build_towers(shape, image_weights=str(weights))
    built = export_encoder(towers.model, towers.tokenizer, shape, {}, tmp_path / "real", graphs=True)
    graph, plain = Encoder.load(built), in_torch(built, runtime)
    studies = open_source(f"openi:{data / 'openi'}").studies(lambda _: None)
    texts = [study.report.text for study, _ in zip(studies, range(40), strict=False) if study.report]
    files = sorted((data / "nih-chestxray14" / "images").glob("*.png"))[:7]
    images = [read_image(file) for file in files]
    assert len(images) == 7
    for count in (1, 2, 7):
        ours, theirs = (e.encode_images(images[:count]) for e in (graph, plain))
        assert least_cosine(ours, theirs) >= 1 - 1e-6
    patches = (e.encode_patches(images[:2]).vectors for e in (graph, plain))
    assert least_cosine(*patches) >= 1 - 1e-6
    assert least_cosine(graph.encode_texts(texts), plain.encode_texts(texts)) >= 1 - 1e-6
    alone = np.concatenate([graph.encode_texts([text]) for text in texts[:7]])
    assert least_cosine(graph.encode_texts(texts)[:7], alone) >= 1 - 1e-6
