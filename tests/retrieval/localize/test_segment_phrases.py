"""A segmenter localizes phrases as any other localizer does, and refuses those that it has not learned."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from jsonschema import validate
from PIL import Image

from corpus.errors import UsageError
from retrieval.localize.localizer import require_learned, segment_phrases
from retrieval.localize.refine.random_walker import RandomWalkerRefiner
from similarity.cli.main import cli
from trainer.models.export import export_segmenter
from trainer.runtime.segmenter import ResidualUNet, Segmenter, Shape

torch.set_num_threads(1)
SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "contracts" / "localize.schema.json"
BRIGHT = 12.0  # how steeply the made segmenter's probability rises with brightness


def seeing_bright_spots(folder: Path, biases: tuple[float, ...] = (-6.0,)) -> Path:
    """A segmenter that takes bright regions for nodules; one checkpoint per bias."""
    members = []
    for bias in biases:
        net = ResidualUNet(2, 8, 1)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.zero_()
            net.stem.weight[0, 0, 2, 2] = 0.5
            net.stem.bias[0] = 0.5  # undoes 2x − 1: the first channel is the brightness
            net.down[0].around = torch.nn.Identity()
            net.head.weight[0, 0, 0, 0] = BRIGHT
            net.head.bias[0], net.head.bias[1] = bias, -9.0
        members.append(net.state_dict())
    return export_segmenter(members, ["nodule", "left lung"], [0.5, 0.3], Shape(64, 8, 1), {}, folder)


def image_with(spots: list[tuple[int, int]]) -> np.ndarray:
    image = np.full((128, 128), 0.1, np.float32)
    for row, column in spots:
        image[row - 12 : row + 12, column - 12 : column + 12] = 0.95
    return image


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter.load(seeing_bright_spots(tmp_path_factory.mktemp("made") / "segmenter"), "cpu")


def test_its_segmentation_is_the_mask_with_side_and_boxes(segmenter: Segmenter) -> None:
    [found] = segment_phrases(segmenter, image_with([(90, 30)]), ["lung nodule"])
    assert (found.method, found.finding, found.reason) == ("segmenter", "nodule", None)
    assert found.mask is not None
    assert found.mask[90, 30]
    assert not found.mask[30, 90]
    assert found.side == "right"  # the image's left
    assert len(found.boxes) == 1
    assert found.specificity == pytest.approx(found.heat.max())
    assert found.words is not None


def test_a_side_that_contradicts_the_mask_is_refused(segmenter: Segmenter) -> None:
    right, left = segment_phrases(segmenter, image_with([(90, 30)]), ["right nodule", "left nodule"])
    assert right.mask is not None
    assert left.mask is None
    assert "the phrase says left" in (left.reason or "")


@pytest.mark.parametrize(
    ("phrase", "reason"),
    [
        ("pneumothorax", "has not learned this; it knows nodule, left lung"),
        ("no nodule", "denies the finding"),
        ("nodule and effusion", "ask for each by itself"),
    ],
)
def test_a_phrase_without_an_answer_has_a_reason(phrase: str, reason: str, segmenter: Segmenter) -> None:
    [found] = segment_phrases(segmenter, image_with([(90, 30)]), [phrase])
    assert found.mask is None
    assert reason in (found.reason or "")


def test_an_image_without_the_structure_has_no_mask(segmenter: Segmenter) -> None:
    image = image_with([])
    image[0, 0] = 0.2
    [found] = segment_phrases(segmenter, image, ["nodule"])
    assert found.mask is None
    assert "likely enough" in (found.reason or "")
    with pytest.raises(UsageError, match="blank"):
        segment_phrases(segmenter, image_with([]), ["nodule"])


def test_disagreeing_checkpoints_qualify_the_mask(tmp_path: Path) -> None:
    folder = seeing_bright_spots(tmp_path / "segmenter", (-3.0, -10.0, -14.0))
    divided = Segmenter.load(folder, "cpu")
    [segmented] = divided.segment([image_with([(90, 30)])])
    assert segmented.uncertainty[0, 90, 30] > 0.3 > segmented.uncertainty[0, 30, 90]
    folder = seeing_bright_spots(tmp_path / "two", (-3.0, -3.0, -14.0))
    [found] = segment_phrases(Segmenter.load(folder, "cpu"), image_with([(90, 30)]), ["nodule"])
    assert found.mask is not None
    assert "differ" in (found.reason or "")


def test_its_mask_is_refined_like_any_other(segmenter: Segmenter) -> None:
    [found] = segment_phrases(segmenter, image_with([(90, 30)]), ["nodule"], refine=RandomWalkerRefiner())
    assert found.refined_by == "random-walker"


def test_phrases_that_it_never_learned_are_refused_before_a_corpus_is_processed(segmenter: Segmenter) -> None:
    require_learned(segmenter, ["nodule", "fracture"])
    with pytest.raises(UsageError, match="none of what was asked for"):
        require_learned(segmenter, ["fracture"])


def test_the_command_needs_no_encoder_and_no_index_with_a_segmenter(home: Path, tmp_path: Path) -> None:
    folder = seeing_bright_spots(tmp_path / "segmenter")
    path = tmp_path / "image.png"
    Image.fromarray(np.rint(image_with([(90, 30)]) * 255).astype(np.uint8)).save(path)
    words = ["localize", "--image", str(path), "--finding", "nodule", "--segmenter", str(folder)]
    answers = {}
    for choice in ((), ("--refine", "none")):
        done = CliRunner().invoke(cli, [*words, *choice, "--out", str(tmp_path / "out"), "--json"])
        assert done.exit_code == 0, done.output
        record = json.loads(done.stdout)
        validate(record, json.loads(SCHEMA.read_text("utf-8")))
        [answers[choice]] = record["answers"]
    answer = answers[()]
    assert (answer["method"], answer["refined_by"]) == ("segmenter", "random-walker")
    assert Path(answer["files"]["mask"]).is_file()
    assert answers["--refine", "none"]["refined_by"] is None
    read = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "out")])
    assert "  edges by random-walker\n" in read.stdout
    assert answers["--refine", "none"]["mask"] != answer["mask"]
    both = CliRunner().invoke(cli, [*words, "--encoder", "any", "--out", str(tmp_path / "out")])
    assert isinstance(both.exception, UsageError)


def test_it_is_a_row_of_the_evaluation_as_any_other_localizer(
    home: Path, tmp_path: Path, encoder_folder: Path
) -> None:
    truth = tmp_path / "truth"
    for part in ("images", "masks"):
        (truth / part).mkdir(parents=True)
    for number, spot in enumerate([(90, 30), (40, 90)]):
        image = image_with([spot])
        Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(truth / "images" / f"{number}.png")
        Image.fromarray(((image > 0.5) * 255).astype(np.uint8)).save(truth / "masks" / f"{number}.png")
    (truth / "masks.csv").write_text("image,mask,structure\n0.png,0.png,Nodule\n1.png,1.png,Nodule\n")
    folder = seeing_bright_spots(tmp_path / "bright")
    words = ["evaluate-localization", "--masks", str(truth), "--encoder", str(encoder_folder)]
    done = CliRunner().invoke(cli, [*words, "--method", "patches", "--segmenter", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    [structure] = json.loads(done.stdout)["structures"]
    rows = {row["method"]: row for row in structure["rows"]}
    assert rows["segmenter bright"]["dice"]["mean"] > 0.8
    assert rows["segmenter bright"]["side_right"]["mean"] == 1.0
    assert "patches" in rows
