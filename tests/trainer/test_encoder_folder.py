"""An encoder folder is whole and unedited or refused; towers start from what is there or say why not."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from corpus.errors import EncoderError
from trainer.models.architecture import Architecture, find_architecture, list_architectures
from trainer.models.export import export_encoder
from trainer.models.registry import describe_encoder, encoder_folders
from trainer.models.resolve import resolve_encoder
from trainer.runtime.encoder import Encoder
from trainer.runtime.training_overlap import overlapping_subjects, subject_lists, subjects_record
from trainer.train.towers import build_towers, learn_tokenizer


@pytest.fixture
def copy(encoder_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(encoder_folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def tiny() -> Architecture:
    return find_architecture("tiny")


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "tokenizer.json", "config.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(EncoderError, match=f"lacks {name}"):
        Encoder.load(copy)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "open_clip_config.json"])
def test_an_edited_file_is_named(copy: Path, name: str) -> None:
    content = json.loads((copy / name).read_text())
    content["added"] = 1
    (copy / name).write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=f"{name} of the encoder folder .* is not the file"):
        Encoder.load(copy)


def test_edited_weights_are_refused(copy: Path) -> None:
    state = load_file(copy / "open_clip_model.safetensors")
    state["logit_scale"] += 1
    save_file(state, copy / "open_clip_model.safetensors")
    with pytest.raises(EncoderError, match="is not the file that was exported"):
        Encoder.load(copy)


def test_the_model_card_may_be_edited(copy: Path) -> None:
    card = copy / "README.md"
    assert "Not a medical device" in card.read_text()
    card.write_text("mine")
    Encoder.load(copy)


def test_weights_that_do_not_fit_the_configuration_are_refused(copy: Path) -> None:
    from trainer.runtime import encoder_folder as files

    state = load_file(copy / files.WEIGHTS)
    state.pop("text.proj.weight")
    save_file(state, copy / files.WEIGHTS)
    record = json.loads((copy / files.RECORD).read_text())
    record["files"] = files.hash_files(copy)
    (copy / files.RECORD).write_text(json.dumps(record))
    with pytest.raises(EncoderError, match=r"text\.proj\.weight"):
        Encoder.load(copy)


def test_a_folder_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no encoder folder"):
        Encoder.load(tmp_path)
    with pytest.raises(EncoderError, match="there is no encoder folder"):
        Encoder.load(tmp_path / "nowhere")
    (tmp_path / "similarity.json").write_text("<html>")
    with pytest.raises(EncoderError, match=r"similarity\.json .* cannot be read"):
        Encoder.load(tmp_path)


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes, *, mode: int) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("trainer.runtime.encoder_folder.write_whole", refuse)
    assert Encoder.load(copy).encode_texts(["edema"]).shape == (1, 32)


def test_an_encoder_is_found_by_folder_by_run_and_by_name(
    encoder_folder: Path, home: Path, tmp_path: Path
) -> None:
    named = home / "encoders" / "first"
    shutil.copytree(encoder_folder, named)
    run = tmp_path / "run"
    shutil.copytree(encoder_folder, run / "encoder")
    assert resolve_encoder("first") == named
    assert resolve_encoder(run) == run / "encoder"
    assert Encoder.load(run).dim == 32
    assert list(encoder_folders()) == [named]
    assert describe_encoder(named)["architecture"] == "tiny-test"
    with pytest.raises(EncoderError, match="did you mean 'first'"):
        resolve_encoder("frist")
    with pytest.raises(EncoderError, match="is no encoder folder"):
        resolve_encoder(tmp_path)


def test_every_architecture_of_ours_can_be_read() -> None:
    assert {"tiny", "mobilenetv2-minilm"} <= set(list_architectures())
    for name in list_architectures():
        assert find_architecture(name).model_cfg["embed_dim"] > 0
    with pytest.raises(EncoderError, match="did you mean 'tiny'"):
        find_architecture("tinny")


def test_an_architecture_file_with_an_unknown_part_is_refused(tmp_path: Path) -> None:
    shape = tmp_path / "mine.json"
    shape.write_text('{"model_cfg": {}, "preprocess_cfg": {}, "colour": 1}')
    with pytest.raises(EncoderError, match="unknown part 'colour'"):
        find_architecture(str(shape))
    shape.write_text('{"model_cfg": {}, "preprocess_cfg": {}}')
    with pytest.raises(EncoderError, match="is no architecture"):
        find_architecture(str(shape))


def test_image_weights_fill_the_backbone_and_their_classifier_is_dropped(
    tiny: Architecture, tmp_path: Path
) -> None:
    trunk = build_towers(tiny, texts=lambda: ["a"]).model.visual.trunk  # type: ignore[union-attr]
    state = {name: tensor.clone().contiguous() for name, tensor in trunk.state_dict().items()}  # type: ignore[union-attr, operator]
    state["conv_stem.weight"] = torch.full_like(state["conv_stem.weight"], 0.25)
    state["classifier.weight"], state["classifier.bias"] = torch.zeros(10, 256), torch.zeros(10)
    file = tmp_path / "trunk.safetensors"
    save_file(state, file)
    towers = build_towers(tiny, image_weights=str(file), texts=lambda: ["a"])
    assert bool((towers.model.visual.trunk.conv_stem.weight == 0.25).all())  # type: ignore[union-attr, operator]
    state.pop("bn2.weight")
    state["bn2.extra"] = torch.zeros(1)
    save_file(state, file)
    with pytest.raises(EncoderError, match=r"missing 1 \(bn2\.weight\); extra 1 \(bn2\.extra\)"):
        build_towers(tiny, image_weights=str(file), texts=lambda: ["a"])


def test_an_encoder_gives_its_image_backbone_and_the_subjects_it_saw(
    tiny: Architecture, tmp_path: Path
) -> None:
    first = build_towers(tiny, texts=lambda: ["a"])
    torch.nn.init.constant_(first.model.visual.trunk.conv_stem.weight, 0.25)  # type: ignore[union-attr, arg-type]
    record = {"subjects": subjects_record(["ann"]), "earlier_subjects": [subjects_record(["bob"])]}
    folder = export_encoder(first.model, first.tokenizer, tiny, record, tmp_path / "run" / "encoder")
    for named in (folder, folder.parent):
        towers = build_towers(tiny, image_weights=str(named), texts=lambda: ["a"])
        assert bool((towers.model.visual.trunk.conv_stem.weight == 0.25).all())  # type: ignore[union-attr]
        later = {"subjects": subjects_record(["cyd"]), "earlier_subjects": subject_lists(towers.earlier)}
        assert overlapping_subjects(later, ["ann", "bob", "cyd", "dan"]) == {"ann", "bob", "cyd"}
    (folder / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(EncoderError, match="not the file that was exported"):
        build_towers(tiny, image_weights=str(folder), texts=lambda: ["a"])


@pytest.mark.parametrize("name", ["page.bin", "page.safetensors"])
def test_weights_that_are_an_html_page_are_refused(tiny: Architecture, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<!doctype html><html>404</html>")
    with pytest.raises(EncoderError, match="is a web page, not weights"):
        build_towers(tiny, image_weights=str(tmp_path / name), texts=lambda: ["a"])


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"root:x:0:0\n", "is no file of weights")]
)
def test_weights_of_another_kind_are_called_so(
    tiny: Architecture, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(EncoderError, match=message):
        build_towers(tiny, image_weights=str(tmp_path / "weights"), texts=lambda: ["a"])


def test_pickled_code_in_weights_is_never_run(tiny: Architecture, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(tmp_path / "sprung").write_text, ("x",))

    torch.save({"conv_stem.weight": Trap()}, tmp_path / "trap.bin")
    with pytest.raises(EncoderError, match="code in a checkpoint is never run"):
        build_towers(tiny, image_weights=str(tmp_path / "trap.bin"), texts=lambda: ["a"])
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("image", "text", "message"),
    [
        ("nowhere.safetensors", None, "are no file"),
        ("timm:no_such_net", None, "knows no pretrained weights"),
        (None, "package:no_such_package/model", "not installed"),
        (None, "someone/not-cached-model", "neither a folder nor in the local hub cache"),
        (None, "./not/a/folder", "no folder with a config.json"),
    ],
)
def test_weights_that_are_not_there_are_one_clear_line(
    tiny: Architecture, image: str | None, text: str | None, message: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        build_towers(tiny, image_weights=image, text_weights=text, texts=lambda: ["a"])


def test_a_learned_vocabulary_is_reproducible_and_spells_unknown_words() -> None:
    texts = ["no pleural effusion seen", "small pleural effusion", "cardiomegaly is seen"] * 3
    first, second = (learn_tokenizer(texts, 300, 64) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
    assert first.pad_token_id == 0
    assert "effusion" in first.get_vocab()
    assert first.unk_token_id not in first("Zyxwv 42% (quartz)")["input_ids"]


def test_weights_that_are_not_finite_are_not_exported(tiny: Architecture, tmp_path: Path) -> None:
    towers = build_towers(tiny, texts=lambda: ["a"])
    torch.nn.init.constant_(towers.model.text.proj.weight, float("nan"))  # type: ignore[union-attr, arg-type]
    with pytest.raises(EncoderError, match="not finite"):
        export_encoder(towers.model, towers.tokenizer, tiny, {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_export_leaves_a_folder_of_something_else_alone(tiny: Architecture, tmp_path: Path) -> None:
    towers = build_towers(tiny, texts=lambda: ["a"])
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(EncoderError, match="holds something that is no encoder"):
        export_encoder(towers.model, towers.tokenizer, tiny, {}, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").exists()


@pytest.mark.real_data
def test_the_real_towers_start_from_their_weights(models: Path, tmp_path: Path) -> None:
    """ImageNet's backbone and MiniLM's encoder; the sentences then lie as MiniLM lays them."""
    shape = find_architecture("mobilenetv2-minilm")
    weights = models / "mobilenetv2_100-imagenet" / "model.safetensors"
    towers = build_towers(shape, image_weights=str(weights))
    torch.nn.init.eye_(towers.model.text.proj.weight)  # type: ignore[union-attr, arg-type]
    encoder = Encoder.load(export_encoder(towers.model, towers.tokenizer, shape, {}, tmp_path / "real"))
    effusion, fluid, bone = encoder.encode_texts(
        ["There is a pleural effusion.", "Fluid in the pleural space.", "The clavicle is broken."]
    )
    assert effusion @ fluid > effusion @ bone + 0.2
    state = load_file(weights)
    trunk = encoder.model.visual.trunk  # type: ignore[union-attr]
    torch.testing.assert_close(trunk.conv_stem.weight.cpu(), state["conv_stem.weight"])  # type: ignore[union-attr]
