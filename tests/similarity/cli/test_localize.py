"""`similarity localize` as it is typed: its output, its files, and its refusals in one line."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from corpus.errors import SimilarityError
from corpus.images.reader import read_image
from corpus.sources.phantom import PhantomSource
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from retrieval.localize.answer import decode_runs
from similarity.cli.main import cli
from tests.corpus.conftest import dicom_of
from tests.encoders import build_tiny_encoder
from tests.retrieval.export.dicom_images import PATIENT
from trainer.runtime.encoder import Encoder

CONTRACTS = Path(__file__).resolve().parents[3] / "docs" / "contracts"

Localize = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture
def localize(home: Path, folder: Path) -> Localize:
    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["localize", "--method", "patches", *words])

    return run


def _json(result: Result, contract: str) -> dict[str, Any]:
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    record: dict[str, Any] = json.loads(result.stdout)
    jsonschema.validate(record, json.loads((CONTRACTS / f"{contract}.schema.json").read_text("utf-8")))
    return record


def _refused(result: Result) -> str:
    assert isinstance(result.exception, SimilarityError), result.exception
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_an_image_is_localized_without_an_index_in_json_and_in_files(
    localize: Localize, folder: Path, tmp_path: Path, home: Path
) -> None:
    image = "phantom://3/4"
    words = (
        "--image",
        image,
        "--finding",
        "nodule",
        "--finding",
        "pleural effusion",
        "--encoder",
        str(folder),
    )
    record = _json(localize(*words, "--out", str(tmp_path / "out"), "--json"), "localize")
    assert not (home / "catalog.sqlite").exists()
    shape = read_image(image).shape
    for answer, name in zip(record["answers"], ("nodule", "pleural-effusion"), strict=True):
        files = {kind: Path(path) for kind, path in answer["files"].items()}
        assert {path.parent for path in files.values()} == {tmp_path / "out" / name}
        heat = np.load(files["heat"])
        assert (heat.dtype, heat.shape) == (np.float16, shape)
        assert "mask" in files if answer["mask"] else "mask" not in files
        if answer["mask"]:
            written = np.asarray(Image.open(files["mask"])) > 0
            np.testing.assert_array_equal(written, decode_runs(answer["mask"]))
        assert Image.open(files["overlay"]).mode == "RGB"
    read = localize(*words, "--out", str(tmp_path / "out"))
    assert read.exit_code == 0
    assert "nodule: " in read.stdout
    assert "threshold" in read.stdout
    masks = sum(answer["mask"] is not None for answer in record["answers"])
    assert read.stdout.count("  edges by random-walker\n") == masks


FINDINGS = ("infiltration", "nodule", "right pleural effusion")


def test_a_dicom_image_has_the_same_answer_however_it_is_stored_and_in_its_own_millimetres(
    localize: Localize, folder: Path, tmp_path: Path
) -> None:
    shown = np.rint(read_image("phantom://3/4") * 4095).astype(np.uint16)
    window = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096, **PATIENT}
    stored = {"L\\F": shown, "R\\F": shown[:, ::-1], "L\\H": shown[::-1], "H\\R": shown[::-1, ::-1].T}
    answers, heats = [], []
    for number, (orientation, pixels) in enumerate(stored.items()):
        path = tmp_path / f"{number}.dcm"
        spacing = [0.5, 2.0] if orientation == "H\\R" else [2.0, 0.5]
        dicom_of(
            np.ascontiguousarray(pixels),
            PatientOrientation=orientation.split("\\"), PixelSpacing=spacing, **window,
        ).save_as(path, enforce_file_format=True)  # fmt: skip
        findings = [word for name in FINDINGS for word in ("--finding", name)]
        words = ("--image", str(path), *findings, "--encoder", str(folder))
        record = _json(localize(*words, "--out", str(tmp_path / "out"), "--json"), "localize")
        assert record["notes"] == []
        heats.append(np.stack([np.load(answer["files"]["heat"]) for answer in record["answers"]]))
        answers.append([{k: v for k, v in answer.items() if k != "files"} for answer in record["answers"]])
    assert all(answer == answers[0] for answer in answers[1:])
    for answer in answers[0]:
        assert (answer["pixel_spacing_mm"], answer["spacing_source"]) == ([2.0, 0.5], "patient")
    assert all((heat == heats[0]).all() for heat in heats)


def test_without_a_spacing_an_answer_states_that_its_millimetres_are_assumed(
    localize: Localize, folder: Path, tmp_path: Path
) -> None:
    words = ("--image", "phantom://3/4", "--finding", "nodule", "--encoder", str(folder))
    record = _json(localize(*words, "--out", str(tmp_path / "out"), "--json"), "localize")
    [answer] = record["answers"]
    assert (answer["pixel_spacing_mm"], answer["spacing_source"], answer["size_mm"]) == (
        None,
        "assumed",
        None,
    )


def test_a_window_that_shows_nothing_is_noted_beside_the_answer(
    localize: Localize, folder: Path, tmp_path: Path
) -> None:
    shown = np.rint(read_image("phantom://3/4") * 4095).astype(np.uint16)
    path = tmp_path / "image.dcm"
    dataset = dicom_of(shown, **{**PATIENT, "BitsStored": 12, "WindowCenter": 32768, "WindowWidth": 65536})
    dataset.save_as(path, enforce_file_format=True)
    words = ("--image", str(path), "--finding", "nodule", "--encoder", str(folder))
    out = ("--out", str(tmp_path / "out"))
    [note] = _json(localize(*words, *out, "--json"), "localize")["notes"]
    assert note.startswith("'image.dcm' is shown by the range of its values")
    assert localize(*words, *out).stdout.splitlines()[0] == note


def test_a_wrong_request_is_refused_in_one_line_before_anything_is_loaded(
    localize: Localize, folder: Path, tmp_path: Path
) -> None:
    out = ("--out", str(tmp_path / "out"))
    image = ("--image", "phantom://3/4")
    encoder = ("--encoder", str(folder))
    for words, message in (
        (("--finding", "nodule", *out), "give one of --image FILE"),
        ((*image, "--case", "phantom:3-4", "--finding", "nodule", *out), "not --image and --case"),
        ((*image, *out), "give --finding TEXT"),
        ((*image, "--finding", "nodule", "--like", "phantom:3-4", *out), "and not both"),
        ((*image, "--finding", "nodule"), "--out DIR"),
        (("--corpus", "phantom:3", "--like", "phantom:3-4", *out), "not --corpus"),
        ((*image, "--finding", "", *out), "is empty"),
        ((*image, "--finding", "x" * 10_000, *out), "10,000 characters"),
        ((*image, "--finding", "nodule", *out, *encoder, "--refine", "magic"), "not 'magic'"),
        ((*image, "--finding", "nodule", *out), "is empty: fill it with"),
        (("--image", str(tmp_path / "gone.png"), "--finding", "nodule", *out, *encoder), "is not there"),
    ):
        assert message in _refused(localize(*words))
    assert not (tmp_path / "out").exists()


def test_blank_tiny_and_huge_images_are_refused_by_name(
    localize: Localize, folder: Path, tmp_path: Path
) -> None:
    images = {
        "blank.png": (np.zeros((64, 64), np.uint8), "is blank"),
        "tiny.png": (np.arange(100, dtype=np.uint8).reshape(10, 10), "too small"),
        "huge.png": (np.zeros((20_000, 20_000), np.uint8), "more pixels than"),
    }
    for name, (pixels, reason) in images.items():
        Image.fromarray(pixels).save(tmp_path / name, compress_level=1)
        words = ("--image", str(tmp_path / name), "--finding", "nodule", "--encoder", str(folder))
        message = _refused(localize(*words, "--out", str(tmp_path / "out")))
        assert name in message
        assert reason in message
    assert not (tmp_path / "out").exists()


def test_a_corpus_run_resumes_and_its_folder_is_of_one_encoder(
    localize: Localize, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "masks"
    words = (
        "--finding",
        "nodule",
        "--finding",
        "edema",
        "--encoder",
        str(folder),
        "--out",
        str(out),
        "--json",
    )
    first = _json(localize("--corpus", "phantom:3@3", *words), "localize-corpus")
    assert (first["pictures"], first["found"] + first["refused"], first["skipped"]) == (3, 6, 0)
    table = out / "masks.csv"
    whole = table.read_text()
    # Killed in the middle of a line: that line is made again, the others are not.
    lines = whole.splitlines(keepends=True)
    table.write_text("".join(lines[:-1]) + lines[-1][:20])
    second = _json(localize("--corpus", "phantom:3@3", *words), "localize-corpus")
    assert (second["pictures"], second["skipped"]) == (1, 5)
    assert table.read_text() == whole
    for row in csv.DictReader(whole.splitlines()):
        assert list(row) == ["image", "mask", "structure", "confidence"]
        assert row["image"].startswith("phantom://3/")
        assert 0 <= float(row["confidence"]) <= 1
        assert not row["mask"] or (out / row["mask"]).is_file()
    refusal = _refused(localize("--corpus", "phantom:3@3", *words, "--method", "gradcam"))
    assert "another encoder, method or refiner" in refusal


def test_cases_are_looked_up_in_the_index(
    localize: Localize, folder: Path, tmp_path: Path, home: Path
) -> None:
    with Index.open(read_only=False) as index:
        encoder = Encoder.load(folder, "cpu")
        add_source(index, PhantomSource(3, 3), encoder, origin="p", folder=str(folder), workers=0)
    out = str(tmp_path / "out")
    record = _json(
        localize("--case", "phantom:3-1", "--finding", "nodule", "--out", out, "--json"), "localize"
    )
    assert record["case"] == "phantom:3-1"
    matched = _json(
        localize("--case", "phantom:3-1", "--like", "phantom:3-2", "--out", out, "--json"), "localize-like"
    )
    assert Image.open(matched["files"]["overlay"]).size[0] > 1_000
    assert "has no case" in _refused(localize("--case", "phantom:9-9", "--finding", "nodule", "--out", out))
    _json(
        localize("--corpus", "phantom:3@3", "--finding", "nodule", "--out", f"{out}/masks", "--json"),
        "localize-corpus",
    )


def test_an_image_that_changed_since_it_was_indexed_is_refused(
    localize: Localize, folder: Path, tmp_path: Path, home: Path
) -> None:
    image = tmp_path / "image.png"
    Image.fromarray(np.rint(read_image("phantom://3/0") * 255).astype(np.uint8)).save(image)
    table = tmp_path / "table.csv"
    table.write_text("study_id,image\none,image.png\n")
    from corpus.sources import open_source

    with Index.open(read_only=False) as index:
        encoder = Encoder.load(folder, "cpu")
        add_source(
            index, open_source(f"manifest:{table}"), encoder, origin="m", folder=str(folder), workers=0
        )
    words = ("--case", "manifest:one", "--finding", "nodule", "--out", str(tmp_path / "out"))
    Image.fromarray(np.rint(read_image("phantom://3/1") * 255).astype(np.uint8)).save(image)
    assert "has changed since it was indexed" in _refused(localize(*words))
    image.unlink()
    assert "is not there" in _refused(localize(*words))


def test_a_calibration_is_made_by_the_command_and_used_afterwards(
    localize: Localize, folder: Path, tmp_path: Path, home: Path
) -> None:
    encoder = ("--encoder", str(folder))
    fitted = _json(localize("--calibrate", "phantom:36@8", *encoder, "--json"), "localize-calibrate")
    assert Path(fitted["path"]).is_relative_to(home)
    words = ("--image", "phantom://3/4", "--finding", "nodule", *encoder, "--out", str(tmp_path / "out"))
    record = _json(localize(*words, "--json"), "localize")
    assert record["answers"][0]["threshold"] == pytest.approx(fitted["threshold"], abs=1e-6)
    unsaid = _json(CliRunner().invoke(cli, ["localize", *words, "--json"]), "localize")
    assert unsaid["answers"][0]["method"] == "patches", "the method that the encoder is calibrated for"
