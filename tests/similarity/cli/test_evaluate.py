import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from similarity.cli.main import main
from tests.encoders import build_tiny_encoder

SCHEMA = json.loads(
    (Path(__file__).parents[3] / "docs" / "contracts" / "evaluate.schema.json").read_text("utf-8")
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *args])
    return int(ended.value.code or 0)


def test_json_is_the_contracts_record_and_nothing_else_on_stdout(
    encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(
        "--encoder", str(encoder), "--queries", "phantom:20", "--gallery", "phantom:20@1", "--split", "all",
        "--query-kind", "report", "--gallery-kind", "image", "--seed", "9", "--json",
    ) == 0  # fmt: skip
    record = json.loads(capsys.readouterr().out)
    jsonschema.validate(record, SCHEMA)
    assert (record["queries"]["kind"], record["gallery"]["kind"], record["seed"]) == ("report", "image", 9)


def test_the_table_shows_the_encoder_its_interval_every_baseline_chance_and_the_seed(
    encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(
        "--encoder", str(encoder), "--queries", "phantom:30", "--gallery", "phantom:30", "--split", "all"
    ) == 0  # fmt: skip
    shown = capsys.readouterr()
    for word in ("lift@5", "nDCG@10", "R@10", "95 %", "random", "constant", "normal or not", "Chance here"):
        assert word in shown.out
    assert "seed 0" in shown.out
    assert "dropped" in shown.err


def test_each_requested_section_has_a_table_and_a_key(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = build_tiny_encoder(tmp_path / "other", seed=1)
    sides = ("--encoder", str(encoder), "--queries", "phantom:300", "--gallery", "phantom:300")
    requested = ("--against", str(other), "--zero-shot", "--probe", "--per-class", "4", "--groups")
    titles = ("Balanced: 4 of each", "Groups of queries", "paired", "Zero-shot", "Linear probe")
    keys = ("per_class", "against", "zero_shot", "probe")

    assert run(*sides) == 0
    plain = capsys.readouterr().out
    assert not [title for title in titles if title in plain]
    assert run(*sides, *requested) == 0
    shown = capsys.readouterr()
    assert [title for title in titles if title in shown.out] == list(titles)
    assert "not drawn" in shown.err

    for options in ((), requested):
        assert run(*sides, *options, "--json") == 0
        record = json.loads(capsys.readouterr().out)
        jsonschema.validate(record, SCHEMA)
        assert [record[key] is not None for key in keys] == [bool(options)] * 4
        assert record["per_group"]


@pytest.mark.parametrize(
    ("args", "code", "result"),
    [
        (["--queries", "phantom:40", "--gallery", "phantom"], 2, "KIND:PATH"),
        (["--queries", "phantom:40", "--gallery", "phantom:40", "--split", "dev"], 2, "--split"),
        (["--queries", "phantom:40", "--gallery", "phantom:40", "--seed", "-1"], 2, "--seed"),
        (["--queries", "phantom:40", "--gallery", "phantom:40", "--truth", "gone.csv"], 1, "is not there"),
        (["--queries", "phantom:1", "--gallery", "phantom:1", "--split", "val"], 1, "are empty"),
        (["--queries", "phantom:40", "--gallery", "phantom:40", "--per-class", "0"], 2, "--per-class"),
        (["--queries", "phantom:40", "--gallery", "phantom:40", "--per-class", "99"], 1, "two classes"),
        (["--queries", "phantom:40", "--gallery", "phantom:40", "--against", "nobody"], 1, "nobody"),
        (["--queries", "phantom:9", "--gallery", "phantom:9", "--probe", "--split", "all"], 2, "'all'"),
        (
            ["--queries", "phantom:40", "--gallery", "phantom:40", "--query-kind", "report", "--zero-shot"],
            2,
            "both sides are reports",
        ),
    ],
)
def test_what_cannot_be_evaluated_leaves_by_the_contracts_code_with_one_line(
    encoder: Path, capsys: pytest.CaptureFixture[str], args: list[str], code: int, result: str
) -> None:
    assert run("--encoder", str(encoder), *args) == code
    shown = capsys.readouterr()
    assert result in shown.err
    assert "Traceback" not in shown.err


def test_an_unknown_encoder_is_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--encoder", "nobody", "--queries", "phantom:9", "--gallery", "phantom:9") == 1
    assert "nobody" in capsys.readouterr().err


def test_a_truth_table_of_neither_side_is_wrong_usage(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "truth.csv"
    table.write_text("filename,edema\nCXR1,1\n", "utf-8")
    sides = ("--queries", "phantom:20", "--gallery", "phantom:20", "--truth", str(table))
    assert run("--encoder", str(encoder), *sides) == 2
    assert "openi:1" in capsys.readouterr().err


def test_strict_makes_a_failed_item_an_exit_of_one(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image at all")
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(tmp_path / "whole.png")
    table = tmp_path / "table.csv"
    table.write_text("study_id,image,present\na,broken.png,edema\nb,whole.png,edema\n", "utf-8")
    args = ["--encoder", str(encoder), "--queries", f"manifest:{table}", "--gallery", "phantom:9"]
    args += ["--split", "all", "--gallery-kind", "report"]
    assert run(*args) == 0
    assert "queries: 1 failed" in capsys.readouterr().err
    assert run(*args, "--strict") == 1
