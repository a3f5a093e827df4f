"""What `similarity index` prints for people: nouns agree with their numbers, and the field's terms."""

from pathlib import Path

from click.testing import CliRunner, Result

from similarity.cli.index import index


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(index, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def test_an_index_of_few_studies_is_described_in_words(home: Path, encoder_folder: Path) -> None:
    run("add", "phantom:1@2", "--encoder", str(encoder_folder), "--workers", "0", "--patches")

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
