"""The table sentence × finding: one row a different sentence, four statuses, whole or not at all."""

import json
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from click.testing import CliRunner, Result

from corpus.errors import CorpusError
from corpus.findings import VOCABULARY
from corpus.language.labeler import LABELER_VERSION
from corpus.language.sentence_table import tabulate_sentences, write_table
from corpus.sources import open_source
from corpus.sources.phantom import PhantomSource
from similarity.cli.main import cli, main

CONTRACTS = Path(__file__).parents[2] / "docs" / "contracts"
STATUSES = {"present", "absent", "uncertain", "unmentioned"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["corpus", "sentences", *arguments], catch_exceptions=False)


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    (tmp_path / "m.csv").write_text(
        "study_id,subject_id,report\n"
        'S1,P1,"INDICATION: Edema. FINDINGS: No effusion. Possible nodule. No effusion."\n'
        'S2,P2,"No effusion. Edema."\n'
        "S3,P3,XXXX\n"
    )
    return f"manifest:{tmp_path / 'm.csv'}"


def test_a_sentence_is_one_row_with_its_studies_and_its_statuses(tmp_path: Path, manifest: str) -> None:
    out = tmp_path / "s.parquet"
    result = run(manifest, "--out", str(out))
    assert result.exit_code == 0
    assert result.stdout.strip() == str(out)
    assert result.stderr.splitlines() == ["2 reports, 5 occurrences, 3 sentences", "1 skipped"]
    rows = {row.pop("sentence"): row for row in pl.read_parquet(out).to_dicts()}
    assert {sentence: row["studies"] for sentence, row in rows.items()} == {
        "No effusion.": 2, "Edema.": 1, "Possible nodule.": 1,
    }  # fmt: skip
    assert list(rows["Edema."]) == ["studies", *VOCABULARY.names]
    assert rows["No effusion."]["pleural_effusion"] == "absent"
    assert rows["Possible nodule."]["nodule"] == "uncertain"
    assert rows["Edema."]["lung_opacity"] == rows["Edema."]["edema"] == "present"
    assert rows["Edema."]["nodule"] == "unmentioned"


def test_one_denial_does_not_make_an_image_normal(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("study_id,report\nS1,No effusion. No acute disease.\n")
    source = open_source(f"manifest:{tmp_path / 'm.csv'}")
    frame = tabulate_sentences(source.studies(lambda problem: None)).frame
    outcome = dict(zip(frame["sentence"], frame["no_finding"], strict=True))
    assert outcome == {"No effusion.": "unmentioned", "No acute disease.": "present"}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_every_kind_of_table_holds_the_same_rows(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"s{suffix}"
    outcome = json.loads(run("phantom:30@5", "--out", str(out), "--json").stdout)
    schema = json.loads((CONTRACTS / "corpus-sentences.schema.json").read_text("utf-8"))
    jsonschema.validate(outcome, schema)
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix]
    frame = read(out)
    expected = tabulate_sentences(PhantomSource(30, 5).studies(lambda problem: None))
    assert frame.with_columns(pl.all().cast(pl.String)).equals(
        expected.frame.with_columns(pl.all().cast(pl.String))
    )
    assert (outcome["reports"], outcome["sentences"]) == (30, frame.height)
    assert outcome["problems"]["failed"]["count"] == 0
    assert set(frame.select(VOCABULARY.names).unpivot()["value"]) <= STATUSES


def test_the_parquet_says_what_it_was_made_from(tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    run("phantom:3", "--out", str(out))
    remaining = pl.read_parquet_metadata(out)
    assert (remaining["source"], remaining["labeler_version"]) == ("phantom", LABELER_VERSION)


def test_a_table_that_cannot_be_finished_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    out.write_text("as it was")
    nested = pl.DataFrame({"sentence": [["no CSV holds a list"]]})
    with pytest.raises(pl.exceptions.PolarsError):
        write_table(nested, out, {})
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]
    assert out.read_text() == "as it was"


def test_the_table_is_its_owners_alone(tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    run("phantom:3", "--out", str(out))
    assert out.stat().st_mode & 0o077 == 0


def test_a_corpus_without_reports_is_an_empty_table(tmp_path: Path) -> None:
    assert tabulate_sentences([]).frame.columns == ["sentence", "studies", *VOCABULARY.names]
    write_table(tabulate_sentences([]).frame, tmp_path / "s.parquet", {})
    assert pl.read_parquet(tmp_path / "s.parquet").height == 0


@pytest.mark.parametrize(
    ("out", "code", "says"), [("s.xlsx", 2, ".parquet, .csv, .jsonl"), ("gone/s.csv", 1, "make it first")]
)
def test_a_table_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, code: int, says: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["corpus", "sentences", "openi:/nowhere", "--out", str(tmp_path / out)])
    assert left.value.code == code
    assert says in capsys.readouterr().err


def test_a_path_that_cannot_be_replaced_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "s.csv").mkdir()
    with pytest.raises(CorpusError, match=r"'s\.csv' cannot be written"):
        write_table(pl.DataFrame({"sentence": ["x"]}), tmp_path / "s.csv", {})


@pytest.mark.real_data
def test_the_sentences_of_real_reports_are_counted_once_and_mostly_say_something(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s.parquet"
    outcome = json.loads(run(f"openi:{data / 'openi'}", "--out", str(out), "--json").stdout)
    frame = pl.read_parquet(out)
    assert outcome["reports"] == 3139
    assert frame["sentence"].n_unique() == frame.height == outcome["sentences"] > 5000
    assert frame["studies"].sum() <= outcome["occurrences"]
    assert frame["studies"].is_sorted(descending=True)
    silent = frame.filter(pl.all_horizontal(pl.col(VOCABULARY.names) == "unmentioned"))
    assert silent.height / frame.height < 0.5
