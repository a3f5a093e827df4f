"""`similarity evaluate-localization` and `similarity stress`: records, tables, and refusals."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from corpus.errors import CorpusError, EvaluationError, SimilarityError, UsageError
from corpus.splits import split_of
from retrieval.localize.evaluation.baselines import BASELINES
from retrieval.localize.evaluation.stress import CHECKS, INSERTED
from similarity.cli.main import cli

CONTRACTS = Path(__file__).parents[3] / "docs" / "contracts"


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def record(contract: str, *words: str) -> dict[str, Any]:
    done = run(*words, "--json")
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    made: dict[str, Any] = json.loads(done.stdout)
    schema = json.loads((CONTRACTS / f"{contract}.schema.json").read_text("utf-8"))
    jsonschema.validate(made, schema)
    return made


@pytest.mark.usefixtures("home")
def test_each_method_is_a_row_beside_the_baselines(encoder_folder: Path) -> None:
    words = ("evaluate-localization", "--masks", "phantom:5@4", "--encoder", str(encoder_folder))
    made = record("evaluate-localization", *words, "--method", "patches", "--method", "gradcam")
    assert (made["marks"], made["refined_by"]) == ("phantom", "random-walker")
    assert made["pictures"] > 1
    for entry in made["structures"]:
        assert [row["method"] for row in entry["rows"]] == ["patches", "gradcam", *BASELINES]
        assert all(row["baseline"] == (row["method"] in BASELINES) for row in entry["rows"])
    (structure, *_) = (entry["structure"] for entry in made["structures"])
    shown = run(*words, "--method", "patches", "--structure", structure)
    assert shown.exit_code == 0
    assert f"{structure} (queried as {structure.replace('_', ' ')!r})" in shown.stdout
    assert "mean mask" in shown.stdout
    assert "2 % of the longer side" in " ".join(shown.stdout.split())


def box_set(folder: Path) -> tuple[str, ...]:
    """Write a set in the layout of ChestX-ray14: twelve patients with a box, twelve without a finding."""
    random = np.random.default_rng(0)
    boxes = ["Image Index,Finding Label,Bbox [x,y,w,h],,,"]
    entries = ["Image Index,Finding Labels,Patient ID,Patient Gender,View Position"]
    (folder / "images").mkdir()
    for patient in range(1, 25):
        name = f"{patient:08}_000.png"
        Image.fromarray(random.integers(0, 255, (32, 32), np.uint8)).save(folder / "images" / name)
        if patient <= 12:
            boxes.append(f"{name},Mass,{10 * patient},600,300,200,,,")
        finding, sex = "Mass" if patient <= 12 else "No Finding", "MF"[patient % 2]
        entries.append(f"{name},{finding},{patient},{sex},PA")
    (folder / "boxes.csv").write_text("\n".join(boxes))
    (folder / "Data_Entry_2017.csv").write_text("\n".join(entries))
    return "--boxes", str(folder / "boxes.csv"), "--images", str(folder / "images")


@pytest.mark.usefixtures("home")
def test_boxes_are_measured_on_the_test_split_beside_normal_images(
    encoder_folder: Path, tmp_path: Path
) -> None:
    words = ("evaluate-localization", *box_set(tmp_path), "--encoder", str(encoder_folder))
    words = (*words, "--method", "patches", "--refine", "none")
    made = record("evaluate-localization", *words)
    of_test = [number for number in range(1, 25) if split_of(f"nih-chestxray14:{number}") == "test"]
    assert (made["split"], made["subjects"]) == ("test", sum(number <= 12 for number in of_test))
    assert made["normal_images"] == sum(number > 12 for number in of_test)
    assert made["left_out"]["other_splits"] == 12 - made["subjects"]
    whole = record("evaluate-localization", *words, "--split", "all", "--normals", "3")
    assert (whole["split"], whole["subjects"], whole["normal_images"]) == ("all", 12, 3)
    assert {(group["group"], group["value"]) for group in whole["groups"]} == {
        ("view", "pa"), ("sex", "F"), ("sex", "M"),
    }  # fmt: skip
    shown = " ".join(run(*words, "--split", "all", "--normals", "0").stdout.split())
    for words_shown in ("IoBB ≥ 0.25", "specificity", "patches less mean mask: pointing", "view pa", "sex F"):
        assert words_shown in shown


@pytest.mark.usefixtures("home")
def test_every_change_is_checked_for_every_finding(encoder_folder: Path) -> None:
    words = ("stress", "--encoder", str(encoder_folder), "--films", "phantom:60@21", "--method", "patches")
    made = record("stress", *words, "--limit", "1", "--split", "all")
    assert made["films"] == made["subjects"] == 1
    checks = {(check["change"], check["check"]): check for check in made["checks"]}
    assert set(checks) == {(change, check) for change, names in CHECKS.items() for check in names}
    for (_, name), check in checks.items():
        assert set(check["findings"]) == set(INSERTED)
        if name != "side":  # known only where a mask is given
            assert check["all"]["count"] == sum(one["count"] for one in check["findings"].values()) >= 3


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (("--masks", "phantom:4@4", "--method", "grad-cam"), UsageError, "known are gradcam"),
        (("--masks", "nowhere"), CorpusError, "is no folder"),
        (("--boxes", "b.csv"), UsageError, "--images"),
        ((), UsageError, "give the ground truth"),
        (("--masks", "phantom:12@4", "--structure", "Hernia"), EvaluationError, "has Hernia annotated"),
    ],
)
@pytest.mark.usefixtures("home")
def test_a_wrong_request_is_refused_in_one_line(
    encoder_folder: Path, words: tuple[str, ...], kind: type[SimilarityError], message: str
) -> None:
    done = run("evaluate-localization", "--encoder", str(encoder_folder), *words)
    assert isinstance(done.exception, kind)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)


@pytest.mark.usefixtures("home")
def test_a_source_without_usable_radiographs_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    (tmp_path / "a.png").write_bytes(b"no image")
    table.write_text("study_id,image,present\na,a.png,no_finding\n")
    done = run("stress", "--encoder", str(encoder_folder), "--films", f"manifest:{table}", "--split", "all")
    assert isinstance(done.exception, EvaluationError)
    assert "no normal radiograph" in str(done.exception)
