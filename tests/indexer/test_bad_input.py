"""What is broken is recorded by name and reason, and the job goes on; what stops it says so in a line."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from corpus.errors import CorpusError, EmptyIndex, IndexInUse, SimilarityError
from corpus.geometry import Framing
from corpus.images.decoder import Decoded, DecodePool, Undecoded
from corpus.settings import settings
from indexer.home import Home
from indexer.index import Index
from similarity.cli.main import cli
from tests.corpus.conftest import dicom_of
from tests.indexer.cases import case, cohort, draw, write_manifest
from tests.waiting import DEADLINE_SECONDS

CONTRACTS = Path(__file__).resolve().parents[2] / "docs" / "contracts"


def similarity(*words: str, schema: str | None = None, exit_code: int = 0) -> Any:
    """Run a command in this process; with a schema, its JSON, held to it."""
    result = CliRunner().invoke(cli, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == exit_code, result.output
    if schema is None:
        return result.stdout
    answer = json.loads(result.stdout)
    jsonschema.validate(answer, json.loads((CONTRACTS / f"{schema}.schema.json").read_text()))
    return answer


def test_how_the_tables_were_read_is_reported_and_counts_as_no_failure(
    home: Path, tmp_path: Path, encoder_folder: Path
) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    text = "StudyID,report,date\n1,Größe unverändert. No effusion.,5/6/2019\n2,Edema.,7/8/2019\n"
    (folder / "m.csv").write_bytes(text.encode("cp1252"))
    source = f"manifest:{folder / 'm.csv'}"
    encoder = ("--encoder", str(encoder_folder))
    with pytest.raises(CorpusError, match="--day-first"):
        similarity("index", "add", source, *encoder)
    added = similarity(
        "index", "add", source, *encoder, "--day-first", "--strict", "--json", schema="index-add"
    )
    assert added["studies"] == 2
    assert [notice["kind"] for notice in added["notices"]] == ["encoding", "column", "subject"]
    assert not any(added["problems"].values())


def test_broken_items_among_good_ones_are_recorded_and_passed_over(
    home: Path, tmp_path: Path, encoder_folder: Path
) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    rows = [case(n, folder) for n in range(6)]
    whole = (folder / "film1.png").read_bytes()
    (folder / "film1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "film2.png").write_bytes(b"")
    (folder / "film3.png").unlink()
    os.mkfifo(folder / "film3.png")
    (folder / "film4.png").unlink()
    draw(folder / "a\nb.png", 50)
    rows.append({"study_id": "line", "image": "a\nb.png"})
    source = write_manifest(folder, rows)
    added = similarity("index", "add", source, "--encoder", str(encoder_folder), "--json", schema="index-add")
    assert added["embedded"]["image"] == 3
    assert added["embedded"]["report"] == 6
    answer = similarity("index", "status", "--failed", "--json", schema="index-status")
    problems = {item["item_id"]: item for item in answer["items"]}
    assert {name: problems[f"manifest:s{n}#film{n}"]["state"] for n, name in enumerate("xabcd") if n} == {
        "a": "failed",
        "b": "failed",
        "c": "failed",
        "d": "missing",
    }
    assert all(item["reason"] for item in answer["items"])
    lines = similarity("index", "status", "--failed").splitlines()
    assert len(lines) == len(answer["items"])
    similarity("index", "add", source, "--strict", exit_code=1)
    (folder / "film1.png").write_bytes(whole)
    again = similarity("index", "add", source, "--json", schema="index-add")
    assert again["embedded"]["image"] == 1
    assert again["problems"]["failed"] == 2


def test_every_command_answers_in_the_shape_it_promises(
    home: Path, tmp_path: Path, encoder_folder: Path
) -> None:
    source = cohort(tmp_path / "cases", 6)
    plan = similarity(
        "index", "add", source, "--encoder", str(encoder_folder), "--plan", "--json", schema="index-plan"
    )
    assert not home.exists(), "a plan writes nothing, not even the home"
    assert plan["items"]["image"] == 5
    answer = similarity("index", "add", source, "--encoder", str(encoder_folder), "--plan")
    assert re.search(r"^disk: \d.* [kM]B$", answer, re.MULTILINE)
    assert re.search(r"^time: \d+ s$", answer, re.MULTILINE)
    similarity("index", "add", source, "--encoder", str(encoder_folder), "--json", schema="index-add")
    status = similarity("index", "status", "--json", schema="index-status")
    assert status["vectors"]["image"] == plan["items"]["image"]
    assert status["vectors"]["sentence"] == plan["items"]["sentence"]
    assert similarity("index", "verify", "--json", schema="index-verify")["sound"]
    removed = similarity(
        "index", "remove", "--study", "manifest:s1", "--yes", "--json", schema="index-remove"
    )
    assert removed["studies"] == ["manifest:s1"]
    with Index.open(read_only=False) as index:
        images = index.collection("image")
        index.store.delete(images, list(index.store.ids(images))[:1])
    answer = similarity("index", "verify", "--json", schema="index-verify", exit_code=1)
    assert [fault["fault"] for fault in answer["faults"]] == ["ledger row without vector"]


def test_commands_on_an_empty_index_say_that_it_is_empty(home: Path, tmp_path: Path) -> None:
    with pytest.raises(EmptyIndex, match="index add SOURCE"):
        similarity("index", "verify")
    with pytest.raises(SimilarityError, match="--encoder"):
        similarity("index", "add", cohort(tmp_path / "cases", 1))


@pytest.mark.parametrize("edited", ["open_clip_model.safetensors", "graphs/image.onnx"])
def test_an_edited_encoder_is_refused(home: Path, tmp_path: Path, edited: str) -> None:
    from tests.encoders import build_tiny_encoder

    # Where there are graphs, the weights are not read.
    folder = build_tiny_encoder(tmp_path / "encoder", graphs=None if edited.startswith("graphs") else False)
    source = cohort(tmp_path / "cases", 2)
    similarity("index", "add", source, "--encoder", str(folder))
    moved = folder.rename(tmp_path / "moved")
    similarity("index", "add", source, "--encoder", str(moved))
    content = bytearray((moved / edited).read_bytes())
    content[-1] ^= 1
    (moved / edited).write_bytes(content)
    with pytest.raises(SimilarityError):
        similarity("index", "add", source)


def test_a_second_job_waits_and_then_names_the_first(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder_folder: Path
) -> None:
    monkeypatch.setenv("SIMILARITY_LOCK_WAIT_SECONDS", "0.2")
    settings.cache_clear()
    source = cohort(tmp_path / "cases", 1)
    with Home.open().lock(), pytest.raises(IndexInUse, match=f"process {os.getpid()}"):
        similarity("index", "add", source, "--encoder", str(encoder_folder))


def test_a_file_size_limit_that_is_reached_is_one_line(
    home: Path, tmp_path: Path, encoder_folder: Path
) -> None:
    source = cohort(tmp_path / "cases", 4)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
        "from similarity.cli.main import main; main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "index", "add", source, "--encoder", str(encoder_folder)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("Error: the ")


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    """Two decode processes, with a time limit of eight seconds an image: a good one takes a hundredth."""
    with DecodePool(Framing(32), workers=2, hang_seconds=8.0) as made:
        yield made


def test_a_killed_decode_process_costs_only_the_image_that_it_decoded(
    pool: DecodePool, tmp_path: Path
) -> None:
    for number in range(24):
        draw(tmp_path / f"{number}.png", number, side=600)
    os.mkfifo(tmp_path / "x.png")
    outcomes = [pool.submit(str(tmp_path / f"{number}.png")) for number in range(24)]
    outcomes[0].result(DEADLINE_SECONDS)
    os.kill(pool.worker_ids()[0], signal.SIGKILL)
    results = [outcome.result(DEADLINE_SECONDS) for outcome in outcomes]
    failed = [result for result in results if isinstance(result, Undecoded)]
    assert len(failed) <= 1
    assert all("SIGKILL" in result.reason for result in failed)
    assert isinstance(pool.submit(str(tmp_path / "1.png")).result(DEADLINE_SECONDS), Decoded)


def test_an_image_that_exceeds_the_time_limit_fails_and_the_others_are_read(
    pool: DecodePool, tmp_path: Path
) -> None:
    draw(tmp_path / "good.png", 1)
    first = pool.submit(str(tmp_path / "good.png"))
    first.result(DEADLINE_SECONDS)
    stopped = pool.worker_ids()[0]
    os.kill(stopped, signal.SIGSTOP)
    results = [pool.submit(str(tmp_path / "good.png")).result(DEADLINE_SECONDS) for _ in range(4)]
    waiting = [pool.submit(str(tmp_path / "good.png")) for _ in range(6)]
    results += [outcome.result(DEADLINE_SECONDS) for outcome in waiting]
    given_up = [result for result in results if isinstance(result, Undecoded)]
    assert len(given_up) == 1
    assert "more than 8 s" in given_up[0].reason
    assert stopped not in pool.worker_ids()


def test_an_image_with_an_empty_window_is_indexed_and_noted_until_its_file_is_whole(
    home: Path, tmp_path: Path, encoder_folder: Path
) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    path, source = tmp_path / "films" / "a.dcm", f"dicom:{tmp_path / 'films'}"
    path.parent.mkdir()
    dicom_of(pixels, BitsStored=12, WindowCenter=60000, WindowWidth=10).save_as(
        path, enforce_file_format=True
    )
    words = ("index", "add", source, "--encoder", str(encoder_folder), "--strict", "--json")
    added = similarity(*words, schema="index-add")
    assert (added["embedded"]["image"], added["problems"]["noted"]) == (1, 1)
    again = similarity(*words, schema="index-add")
    assert (again["unchanged"], again["problems"]) == (1, added["problems"]), "the same in every run"
    answer = similarity("index", "status", "--failed", "--json", schema="index-status")
    assert answer["problems"] == {"failed": 0, "skipped": 0, "missing": 0, "noted": 1}
    [item] = answer["items"]
    assert (item["item_id"], item["state"]) == ("dicom:1.2.3#a", "noted")
    assert "its window of centre 60000" in item["reason"]
    dicom_of(pixels, BitsStored=12, WindowCenter=2048, WindowWidth=4096).save_as(path)
    similarity(*words, schema="index-add")
    assert similarity("index", "status", "--json", schema="index-status")["problems"]["noted"] == 0


def test_an_index_of_before_reads_its_dicom_files_again_and_no_others(
    home: Path, tmp_path: Path, encoder_folder: Path
) -> None:
    """DICOM is shown by other rules now: an unchanged file may have other pixels than were embedded."""
    films = tmp_path / "films"
    films.mkdir()
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    dicom_of(pixels, BitsStored=12, PatientOrientation=["R", "F"]).save_as(
        films / "a.dcm", enforce_file_format=True
    )
    Image.fromarray((pixels >> 4).astype(np.uint8)).save(films / "b.png")
    (films / "t.csv").write_text("study_id,image\n1,a.dcm\n2,b.png\n")
    words = ("index", "add", f"manifest:{films / 't.csv'}", "--encoder", str(encoder_folder), "--json")
    assert similarity(*words, schema="index-add")["embedded"]["image"] == 2
    with closing(sqlite3.connect(home / "catalog.sqlite")) as catalog, catalog:
        # As the version before wrote them: size and times alone.
        catalog.execute("UPDATE item SET stamp = rtrim(rtrim(stamp, '0123456789'), ':')")
    for _ in range(2):
        assert similarity(*words, schema="index-add")["embedded"]["image"] == 0
        with closing(sqlite3.connect(home / "catalog.sqlite")) as catalog:
            stamps = [stamp for (stamp,) in catalog.execute("SELECT stamp FROM item ORDER BY item_id")]
        assert [stamp.count(":") for stamp in stamps] == [3, 2]


def test_an_image_that_hangs_otherwise_than_before_is_embedded_again(
    home: Path, tmp_path: Path, encoder_folder: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    path, source = tmp_path / "films" / "a.dcm", f"dicom:{tmp_path / 'films'}"
    path.parent.mkdir()
    words = ("index", "add", source, "--encoder", str(encoder_folder), "--json")
    for orientation, embedded in ((["L", "F"], 1), (["R", "F"], 1)):
        dataset = dicom_of(pixels, BitsStored=12, PatientOrientation=orientation, SeriesNumber=embedded)
        dataset.save_as(path, enforce_file_format=True)
        assert similarity(*words, schema="index-add")["embedded"]["image"] == embedded
