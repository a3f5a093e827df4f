"""The segmenter learns from masks that a localizer made, better than each of them, and from nothing else."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from corpus.errors import EncoderError, TrainingError
from similarity.cli.main import cli
from trainer.data.pseudo_labels import read_pseudo_labels
from trainer.runtime.segmenter import RECORD, WEIGHTS, Segmenter, Shape
from trainer.train import segmenter_loop
from trainer.train.segmenter_loop import SegmenterConfig, train_segmenter
from trainer.train.state import owned

torch.set_num_threads(1)
SMALL = Shape(size=32, width=8, levels=2)
QUICK = SegmenterConfig(shape=SMALL, epochs=2, cycles=2, batch_size=4)
SIDE = 40


def quiet(*_: object) -> None:
    """Progress that is not reported."""


def case(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey image with one bright square, and where the square is."""
    random = np.random.default_rng(number)
    truth = np.zeros((SIDE, SIDE), np.bool_)
    row, column = random.integers(4, SIDE - 16, 2)
    truth[row : row + 12, column : column + 12] = True
    return (random.random((SIDE, SIDE)) * 0.3 + 0.5 * truth).astype(np.float32), truth


def roughened(truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What a localizer would make of it: about there, about as large."""
    return np.roll(truth, random.integers(-4, 5, 2), (0, 1))


def write_folder(folder: Path, count: int = 16, structure: str = "Effusion") -> Path:
    """A folder of weak masks as a localizer writes it."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    random = np.random.default_rng(7)
    rows = []
    for number in range(count):
        image, truth = case(number)
        name = f"{number}.png"
        Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(folder / "images" / name)
        Image.fromarray(roughened(truth, random)).save(folder / "masks" / name)
        rows.append({"image": name, "mask": name, "structure": structure, "confidence": 0.8})
    write_table(folder, rows)
    return folder


def write_table(folder: Path, rows: list[dict[str, Any]]) -> None:
    with (folder / "masks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "mask", "structure", "confidence"])
        writer.writeheader()
        writer.writerows(rows)


def read_table(folder: Path) -> list[dict[str, Any]]:
    with (folder / "masks.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("weak") / "masks")


@pytest.fixture(scope="module")
def quick(masks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter that has hardly learned anything."""
    return train_segmenter(masks, tmp_path_factory.mktemp("run") / "quick", QUICK, quiet, device="cpu")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / max(1, a.sum() + b.sum())


def test_it_draws_better_than_the_masks_it_learned_from(masks: Path, tmp_path: Path) -> None:
    config = SegmenterConfig(shape=SMALL, epochs=24, cycles=3, batch_size=4, learning_rate=5e-3)
    segmenter = Segmenter.load(train_segmenter(masks, tmp_path / "run", config, quiet, device="cpu"), "cpu")
    assert len(segmenter.record["epochs"]) == 24
    assert segmenter.record["members"] == 3
    random = np.random.default_rng(3)
    unseen = [case(number) for number in range(100, 112)]
    drawn = segmenter.segment([image for image, _ in unseen])
    ours = [dice(one.probability[0] > 0.5, truth) for one, (_, truth) in zip(drawn, unseen, strict=True)]
    teachers = [dice(roughened(truth, random), truth) for _, truth in unseen]
    assert np.mean(ours) > np.mean(teachers) + 0.1


def test_only_the_pseudo_labels_are_read(masks: Path, quick: Path, tmp_path: Path) -> None:
    """With true masks beside the folder and without them, the same weights to the last bit."""
    beside = tmp_path / "masks"
    shutil.copytree(masks, beside)
    for number in range(16):
        position = tmp_path / "truth" / f"{number}.png"
        position.parent.mkdir(exist_ok=True)
        Image.fromarray(case(number)[1]).save(position)
    with_truth = train_segmenter(beside, tmp_path / "with", QUICK, quiet, device="cpu")
    assert same(quick, with_truth)
    shutil.rmtree(tmp_path / "truth")
    without = train_segmenter(beside, tmp_path / "without", QUICK, quiet, device="cpu")
    assert same(quick, without)


def test_a_mask_counts_as_much_as_it_is_sure_of_itself(masks: Path, quick: Path, tmp_path: Path) -> None:
    doubted = tmp_path / "masks"
    shutil.copytree(masks, doubted)
    Image.fromarray(np.ones((SIDE, SIDE), np.bool_)).save(doubted / "masks" / "all.png")
    nothing = {"image": "3.png", "mask": "all.png", "structure": "Effusion", "confidence": 0}
    write_table(doubted, [*read_table(masks), nothing])
    assert same(quick, train_segmenter(doubted, tmp_path / "a", QUICK, quiet, device="cpu"))
    write_table(doubted, [*read_table(masks), nothing | {"confidence": 0.9}])
    assert not same(quick, train_segmenter(doubted, tmp_path / "b", QUICK, quiet, device="cpu"))


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(masks: Path, tmp_path: Path) -> None:
    config = SegmenterConfig(shape=SMALL, epochs=4, cycles=2, batch_size=4)
    unbroken = train_segmenter(masks, tmp_path / "unbroken", config, quiet, device="cpu")

    def stop(stage: str, done: int, *_: object) -> None:
        if (stage, done) == ("train", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_segmenter(masks, tmp_path / "broken", config, stop, device="cpu")
    assert not (tmp_path / "broken" / "segmenter").exists()
    with pytest.raises(TrainingError, match="--resume"):
        train_segmenter(masks, tmp_path / "broken", config, quiet, device="cpu")
    resumed = train_segmenter(masks, tmp_path / "broken", config, quiet, resume=True, device="cpu")
    assert same(unbroken, resumed)
    result = (tmp_path / "broken" / "epochs.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in result] == ["epoch", "1", "2", "3", "4"]


def test_a_run_is_resumed_with_its_own_settings_and_masks_only(masks: Path, tmp_path: Path) -> None:
    train_segmenter(masks, tmp_path / "run", QUICK, quiet, device="cpu")
    other = SegmenterConfig(shape=SMALL, epochs=3, cycles=2, batch_size=4)
    with pytest.raises(TrainingError, match="other settings"):
        train_segmenter(masks, tmp_path / "run", other, quiet, resume=True, device="cpu")
    fewer = write_folder(tmp_path / "fewer", 9)
    with pytest.raises(TrainingError, match="not the one"):
        train_segmenter(fewer, tmp_path / "run", QUICK, quiet, resume=True, device="cpu")
    with pytest.raises(TrainingError, match="no checkpoint"):
        train_segmenter(masks, tmp_path / "new", QUICK, quiet, resume=True, device="cpu")


def test_what_cannot_be_learned_from_is_refused(masks: Path, tmp_path: Path) -> None:
    def refusal(folder: Path) -> str:
        with pytest.raises(TrainingError) as error:
            train_segmenter(folder, tmp_path / "run", QUICK, quiet, device="cpu")
        assert not (tmp_path / "run" / "segmenter").exists()
        return str(error.value)

    assert "masks.csv" in refusal(tmp_path / "nowhere")
    one = tmp_path / "one"
    shutil.copytree(masks, one)
    rows = read_table(one)
    write_table(one, rows[:1])
    assert "1 images with usable masks" in refusal(one)
    write_table(one, [row | {"mask": ""} for row in rows])
    assert "all masks of" in refusal(one)
    write_table(one, [rows[0] | {"confidence": "very"}])
    assert "line 2: confidence 'very'" in refusal(one)
    write_table(one, [])
    assert "no rows" in refusal(one)
    (one / "masks.csv").write_text("image,structure\na,b\n")
    assert "no column mask" in refusal(one)


def test_masks_of_another_size_are_left_out_and_counted(masks: Path, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    shutil.copytree(masks, folder)
    Image.fromarray(np.ones((9, 11), np.bool_)).save(folder / "masks" / "0.png")
    (folder / "masks" / "1.png").write_bytes(b"no image")
    (folder / "images" / "2.png").unlink()
    read = read_pseudo_labels(folder, 32, quiet)
    assert len(read.names) == 13
    reasons = dict(read.skipped)
    assert "9 x 11, its image 40 x 40" in reasons["0.png"]
    assert "cannot be read" in reasons["1.png"]
    assert "is not there" in reasons["2.png"]


def test_names_of_one_finding_are_one_structure_and_silence_is_not_absence(
    masks: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "masks"
    shutil.copytree(masks, folder)
    rows = read_table(folder)
    rows[0]["structure"] = "pleural_effusion"
    rows.append({"image": "5.png", "mask": "", "structure": "Left Lung", "confidence": 0.5})
    write_table(folder, rows)
    read = read_pseudo_labels(folder, 32, quiet)
    assert read.structures == ("left lung", "pleural_effusion")
    assert read.weights[:, 1].tolist() == pytest.approx([0.8] * 16)
    assert np.flatnonzero(read.weights[:, 0]).tolist() == [read.names.index("5.png")]


def test_a_loss_that_is_no_number_stops_the_run(
    masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = segmenter_loop._loss
    monkeypatch.setattr(segmenter_loop, "_loss", lambda *given: real(*given) * float("nan"))
    with pytest.raises(TrainingError, match="no number in epoch 1"):
        train_segmenter(masks, tmp_path / "run", QUICK, quiet, device="cpu")


def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(
    masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("trainer.train.state.torch.save", full)
        with pytest.raises(TrainingError, match="No space left"):
            train_segmenter(masks, tmp_path / "a", QUICK, quiet, device="cpu")
    monkeypatch.setattr("trainer.models.export.save_file", full)
    with pytest.raises(TrainingError, match="free some space"):
        train_segmenter(masks, tmp_path / "b", QUICK, quiet, device="cpu")
    left = {path.name for run in ("a", "b") for path in (tmp_path / run).rglob("*") if path.is_file()}
    assert left <= {".lock", "config.json", "epochs.csv", "last.pt"}


def test_two_runs_do_not_share_a_folder(masks: Path, tmp_path: Path) -> None:
    with owned(tmp_path / "run"), pytest.raises(TrainingError, match="another process trains"):
        train_segmenter(masks, tmp_path / "run", QUICK, quiet, device="cpu")


def test_a_map_is_the_same_alone_and_in_any_batch_and_lies_over_the_image(quick: Path) -> None:
    segmenter = Segmenter.load(quick, "cpu")
    radiographs = [
        np.random.default_rng(n).random(shape, np.float32) for n, shape in enumerate([(40, 40), (70, 30)])
    ]
    together = segmenter.segment(radiographs)
    for radiograph, drawn in zip(radiographs, together, strict=True):
        [alone] = segmenter.segment([radiograph])
        assert drawn.probability.shape == drawn.uncertainty.shape == (1, *radiograph.shape)
        assert np.allclose(alone.probability, drawn.probability, atol=1e-5)
        assert 0 <= drawn.probability.min() <= drawn.probability.max() <= 1
        assert drawn.uncertainty.max() <= 0.5


def test_phrases_name_structures_by_any_of_their_names(quick: Path) -> None:
    segmenter = Segmenter.load(quick.parent, "cpu")
    assert segmenter.structures == ("pleural_effusion",)
    assert segmenter.channel("Pleural effusion") == segmenter.channel("effusion") == 0
    assert segmenter.channel("pneumothorax") is None


def test_an_edited_or_incomplete_folder_is_refused(quick: Path, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    shutil.copytree(quick, folder)
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(record | {"weights_sha256": "0" * 64}))
    with pytest.raises(EncoderError, match="SHA-256 differs"):
        Segmenter.load(folder, "cpu")
    (folder / RECORD).write_text(json.dumps(record | {"structures": ["a", "b"]}))
    with pytest.raises(EncoderError, match="cannot be read"):
        Segmenter.load(folder, "cpu")
    (folder / WEIGHTS).unlink()
    with pytest.raises(EncoderError, match="cannot be read"):
        Segmenter.load(folder, "cpu")
    with pytest.raises(EncoderError, match=r"no segmenter\.json"):
        Segmenter.load(tmp_path, "cpu")


def test_the_record_tells_the_training_and_no_image(quick: Path) -> None:
    text = (quick / RECORD).read_text()
    record = json.loads(text)
    assert record["pictures"] == 16
    assert record["masks"] == {"pleural_effusion": {"rows": 16, "confidence": 0.8}}
    assert "fingerprint" in record
    assert ".png" not in text


def test_the_command_prints_the_folder(masks: Path, tmp_path: Path) -> None:
    words = ["train-segmenter", "--masks", str(masks), "--out", str(tmp_path / "run"), "--epochs", "1"]
    done = CliRunner().invoke(cli, [*words, "--cycles", "1", "--size", "32", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert Path(done.stdout.strip()).samefile(tmp_path / "run" / "segmenter")
    refused = CliRunner().invoke(cli, [*words, "--size", "50", "--out", str(tmp_path / "other")])
    assert isinstance(refused.exception, TrainingError)
