"""`similarity evaluate-localization` and `similarity stress`: records, tables, and refusals."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from corpus.errors import CorpusError, EvaluationError, SimilarityError, UsageError
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
