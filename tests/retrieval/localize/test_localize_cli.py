"""`similarity localize` as it is typed: what it prints, what it writes, what it refuses in one line."""

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
from indexer.catalog.localizations import localizations_of
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.ingest.removal import remove_study
from retrieval.export.rle import decode_runs
from similarity.cli.main import cli
from tests.corpus.conftest import dicom_of
from tests.encoders import build_tiny_encoder
from tests.retrieval.export.films import PATIENT
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
    told: dict[str, Any] = json.loads(result.stdout)
    jsonschema.validate(told, json.loads((CONTRACTS / f"{contract}.schema.json").read_text("utf-8")))
    return told


def _refused(result: Result) -> str:
    assert isinstance(result.exception, SimilarityError), result.exception
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_a_film_is_answered_without_an_index_in_json_and_in_files(
    localize: Localize, folder: Path, tmp_path: Path, home: Path
) -> None:
    film = "phantom://3/4"
    words = (
        "--image",
        film,
        "--finding",
        "nodule",
        "--finding",
        "pleural effusion",
        "--encoder",
        str(folder),
    )
    told = _json(localize(*words, "--out", str(tmp_path / "out"), "--json"), "localize")
    assert not (home / "catalog.sqlite").exists()
    shape = read_image(film).shape
    for answer, name in zip(told["answers"], ("nodule", "pleural-effusion"), strict=True):
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
    assert "a mask from" in read.stdout


FINDINGS = ("infiltration", "nodule", "right pleural effusion")


def test_a_dicom_film_is_answered_alike_however_it_is_stored_and_in_its_own_millimetres(
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
        told = _json(localize(*words, "--out", str(tmp_path / "out"), "--json"), "localize")
        assert told["notes"] == []
        heats.append(np.stack([np.load(answer["files"]["heat"]) for answer in told["answers"]]))
        answers.append([{k: v for k, v in answer.items() if k != "files"} for answer in told["answers"]])
    assert all(answer == answers[0] for answer in answers[1:])
    for answer in answers[0]:
        assert (answer["pixel_spacing_mm"], answer["spacing_source"]) == ([2.0, 0.5], "patient")
    assert all((heat == heats[0]).all() for heat in heats)


def test_without_a_spacing_an_answer_says_that_its_millimetres_are_assumed(
    localize: Localize, folder: Path, tmp_path: Path
) -> None:
    words = ("--image", "phantom://3/4", "--finding", "nodule", "--encoder", str(folder))
    told = _json(localize(*words, "--out", str(tmp_path / "out"), "--json"), "localize")
    [answer] = told["answers"]
    assert (answer["pixel_spacing_mm"], answer["spacing_source"], answer["size_mm"]) == (
        None,
        "assumed",
        None,
    )


def test_a_window_that_shows_nothing_is_told_beside_the_answer(
    localize: Localize, folder: Path, tmp_path: Path
) -> None:
    shown = np.rint(read_image("phantom://3/4") * 4095).astype(np.uint16)
    path = tmp_path / "film.dcm"
    dataset = dicom_of(shown, **{**PATIENT, "BitsStored": 12, "WindowCenter": 32768, "WindowWidth": 65536})
    dataset.save_as(path, enforce_file_format=True)
    words = ("--image", str(path), "--finding", "nodule", "--encoder", str(folder))
    out = ("--out", str(tmp_path / "out"))
    [note] = _json(localize(*words, *out, "--json"), "localize")["notes"]
    assert note.startswith("'film.dcm' is shown by the range of its values")
    assert localize(*words, *out).stdout.splitlines()[0] == note


def test_what_cannot_be_asked_is_told_in_one_line_before_anything_is_loaded(
    localize: Localize, folder: Path, tmp_path: Path
) -> None:
    out = ("--out", str(tmp_path / "out"))
    film = ("--image", "phantom://3/4")
    encoder = ("--encoder", str(folder))
    for words, told in (
        (("--finding", "nodule", *out), "say one of --image FILE"),
        ((*film, "--case", "phantom:3-4", "--finding", "nodule", *out), "not --image and --case"),
        ((*film, *out), "say what to find"),
        ((*film, "--finding", "nodule", "--like", "phantom:3-4", *out), "and not both"),
        ((*film, "--finding", "nodule"), "--out DIR"),
        (("--corpus", "phantom:3", "--like", "phantom:3-4", *out), "not --corpus"),
        ((*film, "--finding", "", *out), "is empty"),
        ((*film, "--finding", "x" * 10_000, *out), "10,000 characters"),
        ((*film, "--finding", "nodule", *out, *encoder, "--refine", "magic"), "not 'magic'"),
        ((*film, "--finding", "nodule", *out), "is empty: fill it with"),
        (("--image", str(tmp_path / "gone.png"), "--finding", "nodule", *out, *encoder), "is not there"),
    ):
        assert told in _refused(localize(*words))
    assert not (tmp_path / "out").exists()


def test_blank_tiny_and_huge_pictures_are_refused_by_name(
    localize: Localize, folder: Path, tmp_path: Path
) -> None:
    pictures = {
        "blank.png": (np.zeros((64, 64), np.uint8), "is blank"),
        "tiny.png": (np.arange(100, dtype=np.uint8).reshape(10, 10), "too small"),
        "huge.png": (np.zeros((20_000, 20_000), np.uint8), "more pixels than"),
    }
    for name, (pixels, told) in pictures.items():
        Image.fromarray(pixels).save(tmp_path / name, compress_level=1)
        words = ("--image", str(tmp_path / name), "--finding", "nodule", "--encoder", str(folder))
        message = _refused(localize(*words, "--out", str(tmp_path / "out")))
        assert name in message
        assert told in message
    assert not (tmp_path / "out").exists()


def test_a_corpus_goes_on_where_it_stopped_and_its_folder_is_of_one_encoder(
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
    told = _refused(localize("--corpus", "phantom:3@3", *words, "--method", "gradcam"))
    assert "another encoder, method or refiner" in told


def test_cases_are_looked_up_and_answers_are_kept_with_their_picture(
    localize: Localize, folder: Path, tmp_path: Path, home: Path
) -> None:
    with Index.open(read_only=False) as index:
        encoder = Encoder.load(folder, "cpu")
        add_source(index, PhantomSource(3, 3), encoder, origin="p", folder=str(folder), workers=1)
    out = str(tmp_path / "out")
    told = _json(localize("--case", "phantom:3-1", "--finding", "nodule", "--out", out, "--json"), "localize")
    assert told["case"] == "phantom:3-1"
    alike = _json(
        localize("--case", "phantom:3-1", "--like", "phantom:3-2", "--out", out, "--json"), "localize-like"
    )
    assert Image.open(alike["files"]["overlay"]).size[0] > 1_000
    assert "has no case" in _refused(localize("--case", "phantom:9-9", "--finding", "nodule", "--out", out))
    _json(
        localize("--corpus", "phantom:3@3", "--finding", "nodule", "--out", f"{out}/masks", "--json"),
        "localize-corpus",
    )
    with Index.open(read_only=False) as index:
        kept = localizations_of(index.catalog.engine, "phantom:3-1#frontal")
        assert [(row["phrase"], row["method"]) for row in kept] == [("nodule", "patches")]
        assert kept[0]["fingerprint"] == encoder.fingerprint
        remove_study(index, "phantom:3-1")
        assert localizations_of(index.catalog.engine, "phantom:3-1#frontal") == []


def test_a_film_that_changed_since_it_was_indexed_is_not_answered_as_if_it_had_not(
    localize: Localize, folder: Path, tmp_path: Path, home: Path
) -> None:
    film = tmp_path / "film.png"
    Image.fromarray(np.rint(read_image("phantom://3/0") * 255).astype(np.uint8)).save(film)
    table = tmp_path / "films.csv"
    table.write_text("study_id,image\none,film.png\n")
    from corpus.sources import open_source

    with Index.open(read_only=False) as index:
        encoder = Encoder.load(folder, "cpu")
        add_source(
            index, open_source(f"manifest:{table}"), encoder, origin="m", folder=str(folder), workers=1
        )
    words = ("--case", "manifest:one", "--finding", "nodule", "--out", str(tmp_path / "out"))
    Image.fromarray(np.rint(read_image("phantom://3/1") * 255).astype(np.uint8)).save(film)
    assert "has changed since it was indexed" in _refused(localize(*words))
    film.unlink()
    assert "is not there" in _refused(localize(*words))


def test_a_calibration_is_made_by_the_command_and_used_from_then_on(
    localize: Localize, folder: Path, tmp_path: Path, home: Path
) -> None:
    encoder = ("--encoder", str(folder))
    fitted = _json(localize("--calibrate", "phantom:36@8", *encoder, "--json"), "localize-calibrate")
    assert Path(fitted["path"]).is_relative_to(home)
    words = ("--image", "phantom://3/4", "--finding", "nodule", *encoder, "--out", str(tmp_path / "out"))
    told = _json(localize(*words, "--json"), "localize")
    assert told["answers"][0]["threshold"] == pytest.approx(fitted["threshold"], abs=1e-6)
    unsaid = _json(CliRunner().invoke(cli, ["localize", *words, "--json"]), "localize")
    assert unsaid["answers"][0]["method"] == "patches", "the method that the encoder is calibrated for"
