"""What commands print for people: nouns agree with their numbers, and the field's terms."""

from pathlib import Path

from click.testing import CliRunner, Result

from indexer.catalog.studies import Case
from retrieval.answer import Evidence, Hit, snippet
from similarity.cli.encoders import encoders
from similarity.cli.index import index


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(index, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def test_an_index_of_few_studies_is_described_in_words(home: Path, encoder_folder: Path) -> None:
    added = run("add", "phantom:1@2", "--encoder", str(encoder_folder), "--workers", "0", "--patches")
    assert "\nstudies: 1 read; the index has 1\n" in added.stdout

    assert "1 image, " in run("versions").stdout
    assert "1 patch" in run("versions").stdout

    calibrated = run("calibrate")
    assert calibrated.stdout.strip() == "1 image of 1 subject; fitted: nothing"
    assert "no out-of-distribution detector: 1 subject with images: at least" in calibrated.stderr
    assert "no guarantee: " in calibrated.stderr
    assert "no votes: " in calibrated.stderr
    assert "gate" not in calibrated.stderr

    run("add", "phantom:3@2", "--workers", "0", "--patches")
    assert "3 patches" in run("versions").stdout


def test_encoders_of_a_run_are_not_looked_for_under_the_home(home: Path) -> None:
    result = CliRunner().invoke(encoders, ["list"], catch_exceptions=False)
    assert "no encoder under the home; encoders of `similarity train` stay in their run" in result.stderr


def test_an_image_without_a_report_is_in_the_answer_for_its_similarity() -> None:
    case = Case("manifest:1", "manifest:p", "manifest", None, None, None, {})
    image = Evidence("manifest:1#a", "image", 0.981, None)
    assert snippet(Hit(1, 0.5, "image", "manifest:1#a", case, (image,))) == "image 0.98"
    assert snippet(Hit(1, 0.5, "image", "manifest:1#a", case, ())) == "manifest:1#a"
    reported = Case("manifest:1", "manifest:p", "manifest", None, "Clear lungs.", None, {})
    assert snippet(Hit(1, 0.5, "image", "manifest:1#a", reported, (image,))) == "Clear lungs."
