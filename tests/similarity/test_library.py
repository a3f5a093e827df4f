"""The public API: a plain script fills an index, searches it, and shows the answers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import similarity as sim
from corpus.errors import EncoderError, ReadOnlyIndex, UnreadableImage, UsageError
from tests.encoders import build_tiny_encoder
from tests.indexer.postgres import postgres_server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> sim.Encoder:
    return sim.load_encoder(build_tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, encoder: sim.Encoder) -> Iterator[sim.Index]:
    with sim.Index.open(tmp_path_factory.mktemp("library") / "home", encoder=encoder) as opened:
        added = opened.add("phantom:12@2", workers=0)
        assert (added.studies, sum(added.problems.values())) == (12, 0)
        yield opened


def test_importing_the_library_imports_neither_torch_nor_a_database() -> None:
    heavy = ("torch", "open_clip", "transformers", "sqlalchemy", "polars", "numpy")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, similarity; print([m for m in {heavy} if m in sys.modules])"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists_and_an_unknown_one_is_an_attribute_error() -> None:
    assert all(getattr(sim, name) is not None for name in sim.__all__)
    assert set(sim.__all__) <= set(dir(sim))
    with pytest.raises(AttributeError, match="serch"):
        _ = sim.serch


def test_a_query_is_a_phrase_a_file_a_pillow_image_or_an_array(index: sim.Index, tmp_path: Path) -> None:
    pixels = sim.read_image("phantom://2/3")
    file = tmp_path / "query.png"
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(file)
    of_file = index.search(file, target="images", k=3)
    for query in (str(file), Image.open(file), np.asarray(Image.open(file)), sim.Query(image=file, k=3)):
        answer = index.search(query, target="images", k=3)
        if not isinstance(query, sim.Query):
            assert [hit.item_id for hit in answer] == [hit.item_id for hit in of_file]
    phrase = index.search("right pleural effusion", k=4, where="age>=1")
    assert len(phrase) == 4
    assert phrase.query["text"] == "right pleural effusion"
    both = index.search(file, text="without effusion", k=2)
    assert both.query["image"] == str(file)
    with pytest.raises(UsageError, match="once"):
        index.search("effusion", text="pneumothorax")


@pytest.mark.parametrize("name", ["no-such.png", "scans/1.DCM", "/nowhere/x.dicom", "a.jpeg", "b.tif"])
def test_a_mistyped_path_is_no_phrase(index: sim.Index, name: str) -> None:
    with pytest.raises(UsageError, match=f"there is no image {name!r}; a phrase is given as text=…"):
        index.search(name)
    with pytest.raises(UsageError, match=f"there is no image {name!r}"):
        index.localize(name, "effusion")
    with pytest.raises(UnreadableImage):
        index.draft(name)
    assert index.search(text=name, k=1), "as text it is a phrase"
    with pytest.raises(UsageError, match="the index has no case"):
        index.localize(f"manifest:1@{Path(name).name}", "effusion")


def test_an_answer_is_a_sequence_a_table_and_html_for_a_notebook(index: sim.Index) -> None:
    answer = index.search("pleural effusion", k=5)
    assert [hit.rank for hit in answer] == [1, 2, 3, 4, 5]
    assert answer[-1] is answer.hits[4]
    assert answer[1:3] == answer.hits[1:3]
    table = answer.to_polars()
    assert table.height == 5
    assert table["study_id"].to_list() == [hit.case.study_id for hit in answer]
    assert table.schema["present"] == pl.List(pl.String)
    assert {"age", "sex", "view"} <= set(table.columns)
    page = answer._repr_html_()
    assert page.count("<img") == 5
    assert "http" not in page
    assert "<script" not in page
    assert index.search("effusion", k=1, where="age>130").to_polars().height == 0


def test_no_repr_shows_report_text_or_a_study_id(index: sim.Index) -> None:
    answer = index.search("pleural effusion", k=3)
    for shown in (repr(answer), repr(answer[0]), repr(answer[0].case), repr(index)):
        assert len(shown) < 1_000
        for hit in answer:
            assert hit.case.text is not None
            assert hit.case.text[:20] not in shown
            assert hit.case.study_id not in shown


def test_showing_an_answer_prints_its_table(index: sim.Index, capsys: pytest.CaptureFixture[str]) -> None:
    answer = index.search("pleural effusion", k=2)
    answer.show()
    printed = capsys.readouterr().out
    assert all(hit.case.study_id in printed for hit in answer)


def test_a_finding_is_localized_in_a_hit_a_case_and_an_image(index: sim.Index) -> None:
    hit = index.search("pleural effusion", k=1)[0]
    found = index.localize(hit, "pleural effusion", method="patches", refine="none")
    assert found.map.shape == sim.read_image(hit.case.path or "").shape
    assert found.map.dtype == np.float32
    assert found.mask is None or found.mask.shape == found.map.shape
    assert found.overlay().shape[2] == 3
    assert "<img" in found._repr_html_()
    by_id = index.localize(hit.case.study_id, ["pleural effusion"], method="patches", refine="none")
    np.testing.assert_array_equal(by_id[0].map, found.map)
    alone = sim.localize(
        index.encoder, hit.case.path or "", "pleural effusion", method="patches", refine="none"
    )
    np.testing.assert_array_equal(alone.map, found.map)
    with pytest.raises(UsageError, match="no case"):
        index.localize("phantom:2-999", "nodule")


def test_the_draft_of_an_array_equals_that_of_its_file(index: sim.Index) -> None:
    of_file, of_array = index.draft("phantom://7/1"), index.draft(sim.read_image("phantom://7/1"))
    assert of_file.text().startswith("DRAFT")
    assert of_array.text() == of_file.text()
    assert sim.draft(index, "phantom://7/1").text() == of_file.text()


def test_status_counts_studies_and_verify_finds_no_fault(index: sim.Index) -> None:
    status = index.status(failed=True)
    assert status["studies"] == {"phantom": 12}
    assert status["items"] == []
    assert index.verify().faults == []


def test_an_index_opened_read_only_answers_and_refuses_writes(tmp_path: Path, encoder: sim.Encoder) -> None:
    with sim.Index.open(tmp_path / "home", encoder=encoder) as index:
        index.add("phantom:2@5", workers=0)
    with sim.Index.open(tmp_path / "home", read_only=True) as index:
        assert len(index.search("effusion")) == 2
        with pytest.raises(ReadOnlyIndex, match="read-only"):
            index.add("phantom:1@6", workers=0)


def test_adding_to_an_empty_index_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with (
        sim.Index.open(tmp_path / "home") as index,
        pytest.raises(UsageError, match="encoder"),
    ):
        index.add("phantom:1@6", workers=0)


def test_a_published_encoder_is_not_downloaded_without_download_true(home: Path) -> None:
    with pytest.raises(EncoderError, match=r"pull biomedclip`, or pass download=True$"):
        sim.load_encoder("biomedclip")


def test_an_index_is_on_the_server_named_in_the_call(tmp_path: Path, encoder: sim.Encoder) -> None:
    with postgres_server() as url:
        with sim.Index.open(tmp_path / "home", encoder=encoder, database_url=url) as index:
            index.add("phantom:2@5", workers=0)
        assert not (tmp_path / "home" / "catalog.sqlite").exists()
        with sim.Index.open(tmp_path / "home", database_url=url, read_only=True) as index:
            assert index.status()["studies"] == {"phantom": 2}


def test_a_plain_script_without_a_main_guard_runs_once(tmp_path: Path, encoder: sim.Encoder) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import similarity as sim\n"
        "print('started')\n"
        f"with sim.Index.open('home', encoder={str(encoder.folder)!r}) as index:\n"
        "    index.add('phantom:4@3', workers=2)\n"
        "    print(len(index.search('effusion', k=3)), sum(index.status()['studies'].values()))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == ["started", "3", "4"]
