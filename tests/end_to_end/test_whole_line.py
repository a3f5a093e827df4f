"""Every step by the command line alone: inspect, train, index, search each way, evaluate, remove."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.end_to_end.conftest import Run

CONTRACTS = Path(__file__).resolve().parents[2] / "docs" / "contracts"
SCHEMA = json.loads((CONTRACTS / "search.schema.json").read_text())
BATCH = json.loads((CONTRACTS / "search-batch-answer.schema.json").read_text())
COHORT = "phantom:48@5"


@pytest.fixture(scope="module")
def encoder(run: Run) -> str:
    ran = run("train", "--corpus", COHORT, "--arch", "tiny", "--epochs", "1", "--out", "run")
    return ran.out.split()[-1]


@pytest.fixture(scope="module")
def indexed(run: Run, encoder: str) -> str:
    """The encoder's folder, once the cohort is indexed."""
    added = run("index", "add", COHORT, "--encoder", encoder, "--json").json
    assert added["studies"] == 48
    return encoder


def test_a_source_can_be_inspected_before_anything_is_trained(run: Run) -> None:
    assert "48" in run("corpus", "inspect", COHORT).out


def test_indexing_again_does_nothing(run: Run, indexed: str) -> None:
    again = run("index", "add", COHORT, "--json").json
    assert again["unchanged"] == 48
    assert not any(again["embedded"].values())


def test_a_search_answers_to_the_contract(run: Run, indexed: str) -> None:
    arguments = ("--image", "phantom://6/0", "--for", "cases", "-k", "4", "--where", "sex=F or age<50")
    answer = run("search", *arguments, "--json").json
    jsonschema.validate(answer, SCHEMA)
    assert len(answer["hits"]) == 4
    assert answer["query"]["where"] == "sex=F or age<50"


def test_a_search_prints_a_table_on_stdout_and_notes_on_stderr(run: Run, indexed: str) -> None:
    ran = run("search", "--case", "phantom:5-3", "-k", "3")
    rows = ran.out.strip().splitlines()
    assert rows[0].split() == ["score", "study", "findings", "why"]
    assert sum("phantom:5-" in row for row in rows) == 3
    assert "own studies" in ran.err
    assert "took" in ran.err


def test_a_batch_answers_every_kind_of_search_line_by_line(run: Run, indexed: str) -> None:
    phrase = "There is a right pleural effusion."
    lines = [
        {"id": "image to cases", "image": "phantom://6/0", "k": 2},
        {"id": "image to reports", "image": "phantom://6/1", "for": "reports", "k": 2, "where": "sex=M"},
        {"id": "no image", "image": "not-there.png"},
        {"id": "text to images", "text": phrase, "for": "images", "k": 2},
        {"id": "text to reports", "text": phrase, "for": "reports", "k": 2},
        {"id": "no field", "text": phrase, "where": "sxe=M"},
        {"id": "text to cases", "text": phrase, "k": 2},
        {"id": "case to cases", "case": "phantom:5-3", "k": 2},
    ]
    batch = "\n".join(json.dumps(line) for line in lines) + "\n{broken\n"
    answers = [json.loads(line) for line in run("search", "--batch", "-", stdin=batch).out.splitlines()]
    assert [answer["id"] for answer in answers] == [*(line["id"] for line in lines), 9]
    failed = {answer["id"]: answer["error"] for answer in answers if "error" in answer}
    assert failed.keys() == {"no image", "no field", 9}
    assert "not-there.png" in failed["no image"]
    assert "'sex'" in failed["no field"]
    for answer in answers:
        jsonschema.validate(answer, BATCH)
        if "error" not in answer:
            jsonschema.validate({name: value for name, value in answer.items() if name != "id"}, SCHEMA)
            assert len(answer["hits"]) == 2


def test_the_encoder_is_measured_beside_its_baselines(run: Run, encoder: str) -> None:
    record = run(
        "evaluate", "--encoder", encoder, "--queries", "phantom:40@6", "--gallery", "phantom:40@6",
        "--split", "all", "--json",
    ).json  # fmt: skip
    assert set(record["baselines"]) == {"random", "constant", "normal_abnormal"}
    assert record["seen_subjects"] == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--text", "effusion", "-k", "0"), 2, "k is a number of studies"),
        (("--text", "effusion", "--where", "agee>3"), 2, "unknown field 'agee'; the nearest is 'age'"),
        (("--text", ""), 2, "text is empty"),
        (("--image", "x", "--case", "y"), 2, "not of both: give the second as --like"),
        (("--case", "missing:1"), 2, "no case 'missing:1'"),
        (("--image", "not-there.png"), 1, "is not there"),
        (("--image", "table.csv"), 1, "neither PNG, JPEG nor DICOM"),
        (("--batch", "not-there.jsonl"), 2, "No such file"),
        (("--text", "effusion", "--encoder", "not-there"), 1, "there is no encoder"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else None,
)
def test_a_bad_query_is_one_clear_line(
    run: Run, indexed: str, folder: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    (folder / "table.csv").write_text("a,b\n1,2\n")
    ran = run("search", *words, exits=code)
    assert ran.out == ""
    assert message in ran.err
    assert ran.err.startswith("Error: ")
    assert len(ran.err.strip().splitlines()) == 1


def test_another_encoder_is_refused_in_one_line(run: Run, indexed: str, folder: Path) -> None:
    from tests.encoders import build_tiny_encoder

    other = build_tiny_encoder(folder / "other")
    ran = run("search", "--text", "effusion", "--encoder", str(other), exits=1)
    assert "do not compare" in ran.err or "is not as it was" in ran.err
    lines = ran.err.strip().splitlines()
    assert len([line for line in lines if not line.startswith("WARNING")]) == 1  # it has no graphs


def test_a_removed_study_is_not_found_again(run: Run, indexed: str) -> None:
    arguments = ("search", "--case", "phantom:5-3", "-k", "48", "--json")
    hits = run(*arguments).json["hits"]
    removed = hits[0]["study_id"]
    run("index", "remove", "--study", removed, "--yes")
    left = [hit["study_id"] for hit in run(*arguments).json["hits"]]
    assert removed not in left
    assert len(left) == len(hits) - 1
