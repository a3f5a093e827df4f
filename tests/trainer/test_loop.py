"""A run learns, goes on where it stopped, and whatever goes wrong leaves its folder usable."""

import csv
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from corpus.errors import TrainingError
from corpus.language.sections import parse_report, sentences
from corpus.progress import OnProgress
from corpus.records import Source
from tests.encoders import tiny_levels_shape, tiny_shape
from tests.trainer.studies import GREY, REPORTS, Few
from trainer.data.features import ImageFeatures, TextFeatures, encode_all
from trainer.data.frozen_features import batch_norms, set_modes
from trainer.models.architecture import Architecture
from trainer.runtime.encoder import Encoder
from trainer.runtime.tokens import WindowTokenizer
from trainer.runtime.training_overlap import count_training_overlap
from trainer.train.config import FreezeConfig, TrainConfig
from trainer.train.config_file import read_config
from trainer.train.loop import train
from trainer.train.state import open_run
from trainer.train.towers import Towers, build_towers
from trainer.train.validation import Score

Make = Callable[..., TrainConfig]


class Stopped(Exception):
    """Stands for the power cut."""


@pytest.fixture(autouse=True)
def sources(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> dict[str, Source]:
    """Sources by their name on the command line, in place of folders on a disk."""
    images = tmp_path_factory.mktemp("pictures")
    known: dict[str, Source] = {
        "few:all": Few(images, count=90),
        "few:films": Few(images, count=90, texts=False, labels=True, name="films"),
        "few:words": Few(images, count=90, images=False, name="words"),
    }
    monkeypatch.setattr("trainer.train.preparation.open_source", lambda spec, **_: known[spec])
    return known


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a configuration of a run of seconds."""
    shape = tmp_path / "tiny-test.json"
    shape.write_text(json.dumps(tiny_shape(image_size=32)))

    def make(**overrides: Any) -> TrainConfig:
        settings = {
            "corpus": ["few:all"],
            "arch": str(shape),
            "epochs": 2,
            "sampling.batch_size": 16,
            "optimizer.learning_rate": 5e-3,
            **{name.replace("__", "."): value for name, value in overrides.items()},
        }
        return read_config(None, settings)

    return make


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as table:
        return list(csv.DictReader(table))


def stop_at(step: int) -> OnProgress:
    def watch(stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
        if stage == "train" and done == step:
            raise Stopped

    return watch


class Reported(list[tuple[str, int, int | None]]):
    """The progress that a run reports: (stage, done, total) each."""

    def __call__(self, stage: str, done: int, total: int | None = None, note: str = "", /) -> None:
        self.append((stage, done, total))


def test_it_learns_what_can_be_learned_from_sets_that_were_never_paired(make: Make, tmp_path: Path) -> None:
    seen = Reported()
    config = make(
        corpus=["few:films", "few:words"],
        epochs=5,
        sampling__steps=10,
        augment__brightness=0.0,
        sampling__text_unit="report",
    )
    folder = train(config, tmp_path / "run", seen)
    epochs = rows(tmp_path / "run" / "metrics.csv")
    assert float(epochs[-1]["loss"]) < float(epochs[0]["loss"])
    assert {"gather", "decode", "train", "epoch", "export"} <= {stage for stage, _, _ in seen}
    assert not (tmp_path / "run" / "cache").exists()
    encoder = Encoder.load(folder)
    assert encoder.name == "run"
    rng = np.random.default_rng(0)
    fresh = [
        np.clip((grey + rng.integers(-20, 20, (40, 40))) / 255, 0, 1).astype(np.float32)
        for grey in GREY.values()
    ]
    result = [" ".join(sentences(parse_report("x", REPORTS[finding]))) for finding in GREY]
    similarity = encoder.encode_images(fresh) @ encoder.encode_texts(result).T
    assert similarity.argmax(axis=1).tolist() == [0, 1, 2]


STANDARDISED = {
    "head__standardise": True,
    "head__drop": 0.2,
    "optimizer__average": 0.9,
    "optimizer__keep_start": 0.3,
    "targets__rarity": 0.25,
}
READING = {
    **STANDARDISED,
    "targets__contrast": 0.8,
    "freeze__text_layers": -1,
    "reading__epochs": 2,
    "reading__frozen_layers": 0,
}


LOOKING = {
    **READING,
    "freeze__image_blocks": -1,
    "image_pretraining__epochs": 2,
    "head__start": "pretrained",
}


@pytest.mark.parametrize(
    "settings",
    [{}, STANDARDISED, READING, LOOKING],
    ids=["plain", "standardised heads", "reading", "pretrained images"],
)
def test_an_interrupted_run_resumes_to_the_same_losses_and_the_same_encoder(
    make: Make, tmp_path: Path, settings: dict[str, Any]
) -> None:
    if settings is LOOKING:
        shape = tmp_path / "levels.json"
        shape.write_text(json.dumps(tiny_levels_shape(image_size=32)))
        settings = {**settings, "arch": str(shape)}
    config = make(checkpoint_steps=2, epochs=2, **settings)
    whole = train(config, tmp_path / "whole")
    total = len(rows(tmp_path / "whole" / "steps.csv"))
    assert total >= 6
    for step in (3, total - 1):  # in the middle of an epoch, between two checkpoints
        with pytest.raises(Stopped):
            train(config, tmp_path / "cut", stop_at(step), resume=(tmp_path / "cut").exists())
    again = train(config, tmp_path / "cut", resume=True)
    for name in ("steps.csv", "metrics.csv"):
        left, right = rows(tmp_path / "whole" / name), rows(tmp_path / "cut" / name)
        for row in (*left, *right):
            row.pop("seconds", None)
        assert left == right
    assert Encoder.load(whole).fingerprint == Encoder.load(again).fingerprint


def test_a_frozen_text_projection_keeps_its_initial_weights(make: Make, tmp_path: Path) -> None:
    stored = {"freeze__text_layers": -1, "freeze__text_head": True, "head__standardise": True}
    short = Encoder.load(train(make(epochs=1, **stored), tmp_path / "short"))
    long = Encoder.load(train(make(epochs=3, **stored), tmp_path / "long"))
    words = ["There is a large right pleural effusion.", "The heart is normal."]
    np.testing.assert_allclose(short.encode_texts(words), long.encode_texts(words), atol=1e-6)
    radiograph = np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)
    assert (short.encode_images([radiograph]) @ long.encode_images([radiograph]).T).item() < 0.999


def test_the_record_names_the_data_but_no_subject_and_no_folder(make: Make, tmp_path: Path) -> None:
    folder = train(make(epochs=1), tmp_path / "run")
    text = (folder / "similarity.json").read_text()
    record = json.loads(text)
    assert record["data"][0]["source"] == "few:all"
    assert record["data"][0]["pictures"] > 0
    assert record["config"]["loss"]["name"] == "semantic-matching"
    assert record["starts"] == {"image": "scratch", "text": "scratch"}
    assert str(tmp_path) not in text
    assert "subject1" not in text
    everyone = {f"few:subject{number}" for number in range(90)}
    assert 0 < count_training_overlap(record, everyone) == record["data"][0]["subjects"] < 90
    assert "few:all" in (folder / "README.md").read_text()


@pytest.mark.parametrize("pairing", ["true", "matched"])
def test_infonce_trains_on_true_and_on_matched_pairs(make: Make, tmp_path: Path, pairing: str) -> None:
    config = make(loss__name="infonce", sampling__pairing=pairing, epochs=1)
    assert (train(config, tmp_path / pairing) / "similarity.json").is_file()


def test_infonce_without_a_pair_in_the_corpus_says_so(make: Make, tmp_path: Path) -> None:
    config = make(corpus=["few:films", "few:words"], loss__name="infonce", sampling__batch_size=3)
    with pytest.raises(TrainingError, match="no training image has a text of its own study"):
        train(config, tmp_path / "run")


def test_a_loss_that_is_not_a_number_stops_the_run_which_can_be_resumed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            return images.sum() * float("nan")

    config = make(checkpoint_steps=1, epochs=1)
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", stop_at(3))
    with monkeypatch.context() as patch:
        patch.setattr("trainer.train.run.build_loss", lambda config: Broken())
        with pytest.raises(TrainingError, match="the loss is nan at step 3"):
            train(config, tmp_path / "run", resume=True)
    assert train(config, tmp_path / "run", resume=True).is_dir()


def test_a_full_disk_leaves_the_checkpoint_before(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(checkpoint_steps=1, epochs=1)
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", stop_at(2))

    def full(state: Any, file: Any) -> None:
        file.write(b"half a checkpoint")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("trainer.train.state.torch.save", full)
        with pytest.raises(TrainingError, match=r"cannot be written: .*No space left"):
            train(config, tmp_path / "run", resume=True)
    assert not list((tmp_path / "run" / "checkpoints").glob("*.writing"))
    assert train(config, tmp_path / "run", resume=True).is_dir()


def test_two_runs_in_one_folder_are_refused(make: Make, tmp_path: Path) -> None:
    config = make(epochs=1)
    with (
        open_run(tmp_path / "run", config, resume=False),
        pytest.raises(TrainingError, match="another process trains in"),
        open_run(tmp_path / "run", config, resume=False),
    ):
        pass
    train(config, tmp_path / "run")
    with pytest.raises(TrainingError, match="holds a run already"):
        train(config, tmp_path / "run")


def test_a_resume_with_other_settings_or_another_corpus_is_refused(
    make: Make, tmp_path: Path, sources: dict[str, Source]
) -> None:
    config = make(checkpoint_steps=1, epochs=1)
    with pytest.raises(TrainingError, match="no checkpoint to resume from"):
        train(config, tmp_path / "run", resume=True)
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", stop_at(2))
    with pytest.raises(TrainingError, match=r"other settings \(seed, loss\.temperature\)"):
        train(
            make(checkpoint_steps=1, epochs=1, seed=4, loss__temperature=1.0), tmp_path / "run", resume=True
        )
    few = sources["few:all"]
    assert isinstance(few, Few)
    sources["few:all"] = Few(few.folder, count=120)
    with pytest.raises(TrainingError, match="the corpus is not the one"):
        train(config, tmp_path / "run", resume=True)


def test_a_damaged_checkpoint_says_what_to_do_and_a_whole_copy_goes_on(make: Make, tmp_path: Path) -> None:
    config = make(checkpoint_steps=1, epochs=1)
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", stop_at(2))
    checkpoint = tmp_path / "run" / "checkpoints" / "last.pt"
    whole = checkpoint.read_bytes()
    for damaged, message in (
        (b"<html>", "is a web page"),
        (b"", "is empty"),
        (whole[:3000], "may be cut off"),
    ):
        checkpoint.write_bytes(damaged)
        with pytest.raises(TrainingError, match=f"{message}.*another --out") as refused:
            train(config, tmp_path / "run", resume=True)
        assert "weights_only" not in str(refused.value), "no message suggests to run the code of a file"
    checkpoint.write_bytes(whole)
    assert train(config, tmp_path / "run", resume=True).is_dir()


def test_a_folder_that_cannot_be_written_is_one_clear_line(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written"):
        train(make(), tmp_path / "file" / "run")


# -- what is frozen


@pytest.fixture(scope="module")
def towers() -> Towers:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_towers(
            Architecture(name="t", **tiny_shape(image_size=32)), texts=lambda: ["no pleural effusion"] * 3
        )


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
PREPROCESSING = {"mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.mark.parametrize("blocks", [1, 3, 5, -1])
def test_cached_activations_give_the_features_of_the_whole_tower(
    towers: Towers, tmp_path: Path, blocks: int
) -> None:
    model = towers.model.eval().requires_grad_(True)
    whole = ImageFeatures(model, PIXELS, PREPROCESSING, FreezeConfig(), None, torch.device("cpu"))
    expected = encode_all(lambda index: whole.features(index, training=False), 6)
    frozen = FreezeConfig(image_blocks=blocks)
    parted = ImageFeatures(model, PIXELS, PREPROCESSING, frozen, None, torch.device("cpu"))
    direct = encode_all(lambda index: parted.features(index, training=False), 6)
    np.testing.assert_allclose(direct, expected, atol=1e-5)
    assert parted.fill_cache(tmp_path / "kept.npy")
    stored = encode_all(lambda index: parted.features(index, training=False), 6)
    assert (stored * expected).sum(axis=1).min() > 1 - 1e-4  # float16
    trunk: Any = model.visual
    learning = {name for name, p in trunk.named_parameters() if p.requires_grad}
    assert "trunk.conv_stem.weight" not in learning
    assert "head.proj.weight" in learning
    assert any(name.startswith("trunk.") for name in learning) == (blocks > 0)


def test_more_frozen_blocks_than_there_are_is_refused(towers: Towers) -> None:
    with pytest.raises(TrainingError, match="has 5 blocks"):
        ImageFeatures(
            towers.model, PIXELS, PREPROCESSING, FreezeConfig(image_blocks=9), None, torch.device("cpu")
        )


def test_cached_texts_give_the_features_of_the_whole_tower(towers: Towers) -> None:
    texts = ["no pleural effusion", "effusion " * 80, "pleural"]
    model = towers.model.eval().requires_grad_(True)
    tokenizer = WindowTokenizer.of_tokenizer(towers.tokenizer, 32)
    whole = TextFeatures(model, tokenizer, texts, FreezeConfig(), torch.device("cpu"))
    stored = TextFeatures(model, tokenizer, texts, FreezeConfig(text_layers=-1), torch.device("cpu"))
    assert stored.fill_cache()
    np.testing.assert_allclose(encode_all(stored.features, 3), encode_all(whole.features, 3), atol=1e-5)


def test_a_batch_of_texts_is_as_long_as_its_longest_and_no_longer(towers: Towers) -> None:
    tokenizer = WindowTokenizer.of_tokenizer(towers.tokenizer, 32)
    texts = ["pleural", "no pleural effusion", "effusion " * 80]
    side = TextFeatures(towers.model, tokenizer, texts, FreezeConfig(), torch.device("cpu"))
    short, longer, whole = (side.tokens(np.arange(count)).shape[1] for count in (1, 2, 3))
    assert short < longer < whole <= 32


def test_frozen_statistics_and_frozen_parts_stay_out_of_training(towers: Towers) -> None:
    model = towers.model.requires_grad_(True)
    text: Any = model.text
    text.transformer.embeddings.requires_grad_(False)
    set_modes(model, live_batch_norm=False)
    assert not any(norm.training for norm in batch_norms(model))
    assert not any(module.training for module in text.transformer.embeddings.modules())
    assert text.transformer.encoder.training
    set_modes(model, live_batch_norm=True)
    assert all(norm.training for norm in batch_norms(model))


def test_training_leaves_what_is_frozen_as_it_was(make: Make, tmp_path: Path) -> None:
    freeze = {"image_blocks": 3, "text_layers": -1, "views": 2, "batch_norm": "frozen"}
    overrides = {f"freeze__{name}": value for name, value in freeze.items()}
    config = make(**overrides, epochs=1)
    encoder = Encoder.load(train(config, tmp_path / "run"), device="cpu")
    visual: Any = encoder.model.visual
    for norm in batch_norms(visual):
        assert int(norm.num_batches_tracked) == 0  # type: ignore[arg-type]
    longer = Encoder.load(train(make(**overrides, epochs=2), tmp_path / "longer"), device="cpu")
    theirs: Any = longer.model.visual
    torch.testing.assert_close(visual.trunk.conv_stem.weight, theirs.trunk.conv_stem.weight)
    torch.testing.assert_close(
        visual.trunk.blocks[2][0].conv_exp.weight, theirs.trunk.blocks[2][0].conv_exp.weight
    )
    assert not torch.equal(visual.trunk.conv_head.weight, theirs.trunk.conv_head.weight)


# -- settings of a run


@pytest.mark.parametrize("loss", ["dhn-nce", "multi-positive-infonce"])
@pytest.mark.parametrize("targets", ["concepts", "embedding"])
def test_every_loss_learns_by_every_kind_of_target(
    make: Make, tmp_path: Path, loss: str, targets: str
) -> None:
    config = make(loss__name=loss, targets__of=targets, epochs=3, augment__brightness=0.0)
    train(config, tmp_path / "run")
    epochs = rows(tmp_path / "run" / "metrics.csv")
    assert float(epochs[-1]["loss"]) < float(epochs[0]["loss"])


def test_radiographs_without_any_text_learn_from_sentences_made_of_their_findings(
    make: Make, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="no texts to learn from"):
        train(make(corpus=["few:films"]), tmp_path / "none")
    config = make(
        corpus=["few:films"], sampling__prompts=2, sampling__pairing="true", loss__name="infonce", epochs=1
    )
    record = json.loads((train(config, tmp_path / "run") / "similarity.json").read_text())
    assert record["data"][0]["texts"] >= record["data"][0]["pictures"] > 0


def test_a_run_that_gets_no_better_stops_early_and_keeps_its_best_epoch(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifts = iter([0.1, 0.3, 0.2, 0.3, 0.25, 0.9, 0.9, 0.9])
    monkeypatch.setattr("trainer.train.run.score_validation", lambda *_: Score(0.5, next(lifts), 0.5))
    folder = train(make(epochs=8, patience=3), tmp_path / "run")
    epochs = rows(tmp_path / "run" / "metrics.csv")
    assert [row["lift_at_5"] for row in epochs] == ["0.1", "0.3", "0.2", "0.3", "0.25"]
    record = json.loads((folder / "similarity.json").read_text())
    assert record["metrics"]["held_out_for_tuning"]["epoch"] == 4  # of equals the later


def test_the_curves_are_plotted_and_the_logit_scale_stays_at_its_setting(make: Make, tmp_path: Path) -> None:
    train(make(epochs=2, loss__learn_scale=False, optimizer__temperature=0.5), tmp_path / "run")
    with Image.open(tmp_path / "run" / "curves.png") as drawn:
        assert drawn.size[0] > 600
        grey = np.asarray(drawn.convert("L"))
    assert 0.001 < (grey < 200).mean() < 0.5  # lines on white
    assert {row["logit_scale"] for row in rows(tmp_path / "run" / "steps.csv")} == {"2.000"}


def test_a_step_in_pieces_is_the_same_step(make: Make, tmp_path: Path) -> None:
    shape = tiny_shape(image_size=32)
    shape["text_tower"]["hidden_dropout_prob"] = 0.0
    (tmp_path / "still.json").write_text(json.dumps(shape))
    still = {
        "arch": str(tmp_path / "still.json"),
        "epochs": 1,
        "freeze__batch_norm": "frozen",
        **{f"augment__{name}": 0.0 for name in ("degrees", "translate", "scale", "brightness", "contrast")},
    }
    train(make(**still), tmp_path / "whole")
    train(make(**still, memory__chunk=5), tmp_path / "pieces")
    whole, pieces = (
        [float(row["loss"]) for row in rows(tmp_path / name / "steps.csv")] for name in ("whole", "pieces")
    )
    assert whole == pytest.approx(pieces, rel=1e-3)


def test_a_run_with_text_pretraining_reports_its_progress(make: Make, tmp_path: Path) -> None:
    seen = Reported()
    train(make(**READING, epochs=1), tmp_path / "run", seen)
    read = [(done, total) for stage, done, total in seen if stage == "read"]
    assert read
    assert [done for done, _ in read] == list(range(1, read[-1][1] + 1))
    stages = [stage for stage, _, _ in seen]
    assert stages.index("read") < stages.index("train")


def test_an_image_tower_that_is_no_timm_network_trains(make: Make, tmp_path: Path) -> None:
    content = tiny_shape(image_size=32)
    content["model_cfg"]["vision_cfg"] = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}
    shape = tmp_path / "vit.json"
    shape.write_text(json.dumps(content))
    folder = train(make(arch=str(shape), epochs=1), tmp_path / "run")
    assert Encoder.load(folder).dim == content["model_cfg"]["embed_dim"]


@pytest.mark.parametrize("reading", [0, 8])
def test_a_pretrained_image_tower_lies_in_the_space_of_the_texts_before_any_step(
    make: Make, tmp_path: Path, reading: int
) -> None:
    shape = tmp_path / "levels.json"
    shape.write_text(json.dumps(tiny_levels_shape(image_size=32)))
    seen = Reported()
    config = make(
        arch=str(shape),
        corpus=["few:films", "few:words"],
        **{**READING, "head__drop": 0.0, "reading__epochs": reading, "optimizer__keep_start": 0.99},
        sampling__text_unit="report",
        freeze__image_blocks=-1,
        image_pretraining__epochs=20,
        head__start="pretrained",
        epochs=1,
    )
    folder = train(config, tmp_path / "run", seen)
    stages = [stage for stage, _, _ in seen]
    assert stages.index("look") < stages.index("train")
    encoder = Encoder.load(folder)
    fresh = [np.full((40, 40), grey / 255, np.float32) for grey in GREY.values()]
    texts = encoder.encode_texts([" ".join(sentences(parse_report("x", REPORTS[name]))) for name in GREY])
    similarity = encoder.encode_images(fresh) @ texts.T
    assert similarity.argmax(axis=1).tolist() == [0, 1, 2]
    patches = encoder.encode_patches(fresh).vectors.mean(axis=(1, 2)) @ texts.T
    assert patches[:2].argmax(axis=1).tolist() == [0, 1]
