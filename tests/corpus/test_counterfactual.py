"""Lesions drawn into normal radiographs: the lungs are found, and nothing but the lesion changes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from corpus.annotations import MaskFolder
from corpus.counterfactual.draw import (
    LUNG_TO_MEDIASTINUM,
    NormalRadiograph,
    contralateral,
    drawable_scene,
    normal_radiographs,
)
from corpus.counterfactual.lungs import find_lungs
from corpus.dicom.spacing import Spacing
from corpus.errors import CorpusError
from corpus.findings import is_normal, present_leaves
from corpus.language.labeler import label_study
from corpus.phantom import Scene, organs, render, scene
from corpus.phantom.lesions import CARDIOMEGALY, CONSOLIDATION, EFFUSION, NODULE, PNEUMOTHORAX, Lesion
from corpus.records import Problem
from corpus.sources import open_source
from corpus.sources.phantom import PhantomSource
from corpus.splits import fold_of, split_of
from similarity.cli.main import cli


def bodies(count: int) -> list[Scene]:
    """Normal scenes."""
    drawn = (scene(21, number) for number in range(60))
    return [one for one in drawn if not one.lesions][:count]


def lesion(finding: str, side: str = "right") -> Lesion:
    size, contrast = {
        EFFUSION: (90.0, 1.8),
        CONSOLIDATION: (32.0, 0.9),
        NODULE: (11.0, 0.8),
        PNEUMOTHORAX: (40.0, 0.6),
    }[finding]
    zone = "mid" if finding in (CONSOLIDATION, NODULE) else None
    return Lesion(finding, side, zone, size, contrast, False, 0.5, 0.5, 7)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def radiograph() -> NormalRadiograph:
    return NormalRadiograph.of(render(bodies(1)[0]))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_lungs_are_found_on_their_own_sides_or_not_at_all() -> None:
    found = 0
    for body in bodies(8):
        lungs, truth = find_lungs(render(body)), organs(body)
        if lungs is not None:
            found += 1
            assert overlap(lungs.right, truth["right_lung"]) > 0.85
            assert overlap(lungs.left, truth["left_lung"]) > 0.85
    assert found >= 5


@pytest.mark.parametrize("shape", [(16, 16), (40, 300), (256, 256)])
def test_no_lungs_are_found_where_there_are_none(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    for image in (random.random(shape, dtype=np.float32), np.linspace(0, 1, shape[0] * shape[1])):
        file_image = np.asarray(image, np.float32).reshape(shape)
        assert find_lungs(file_image) is None
        with pytest.raises(CorpusError, match="no two clear lungs"):
            NormalRadiograph.of(file_image)


def test_no_lungs_are_found_on_an_image_printed_in_a_white_frame() -> None:
    file_image = render(bodies(1)[0])
    framed = np.pad(np.pad(file_image, 12, constant_values=0.0), 12, constant_values=1.0)
    assert find_lungs(file_image) is not None
    assert find_lungs(framed) is None


def test_an_image_of_other_proportions_keeps_its_shape() -> None:
    found = 0
    for body in bodies(4):
        wide = np.pad(render(body), ((0, 0), (12, 24)), mode="edge")
        lungs = find_lungs(wide)
        if lungs is not None:
            found += 1
            assert lungs.right.shape == wide.shape
            assert overlap(lungs.right[:, 12:-24], organs(body)["right_lung"]) > 0.85
    assert found


@pytest.mark.parametrize("finding", [EFFUSION, CONSOLIDATION, NODULE, PNEUMOTHORAX])
def test_only_the_pixels_of_the_lesion_change(radiograph: NormalRadiograph, finding: str) -> None:
    one = lesion(finding)
    drawn, mask = radiograph.with_lesions([one]), radiograph.masks([one])[finding]
    assert (drawn == radiograph.image)[~mask].all()
    change = float((drawn - radiograph.image)[mask].mean())
    assert change < -0.01 if finding == PNEUMOTHORAX else change > 0.04
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert mask[:, radiograph.image.shape[1] // 2 :].sum() == 0  # the patient's right is on the image's left
    fainter = radiograph.with_lesions([replace(one, contrast=one.contrast / 2)])
    assert abs(float((fainter - radiograph.image)[mask].mean())) < abs(change)
    assert radiograph.masks([contralateral(one)])[finding][:, : radiograph.image.shape[1] // 2].sum() == 0


def test_a_lesion_as_dense_as_the_mediastinum_looks_like_it() -> None:
    body = bodies(1)[0]
    radiograph = NormalRadiograph.of(render(body))
    dark = radiograph.image[radiograph.right.mask]
    white = 1 - (1 - dark) * np.exp(-radiograph.rate * LUNG_TO_MEDIASTINUM)
    heart = radiograph.image[organs(body)["heart"]]
    assert abs(float(np.median(white)) - float(np.median(heart))) < 0.12
    one = replace(lesion(NODULE), contrast=LUNG_TO_MEDIASTINUM)
    core = radiograph.masks([replace(one, size=2.0)])[NODULE]  # where its rays are longest
    assert np.allclose(
        radiograph.with_lesions([one])[core],
        (1 - (1 - radiograph.image) * np.exp(-radiograph.rate * one.contrast))[core],
        atol=0.03,
    )


def test_a_hidden_lesion_is_doubtful(radiograph: NormalRadiograph) -> None:
    plain = replace(lesion(NODULE), contrast=0.95)
    noise = np.random.default_rng(0).normal(0, 0.12, radiograph.image.shape).astype(np.float32)
    noisy = replace(radiograph, image=np.clip(radiograph.image + noise, 0, 1))
    assert not radiograph.hides(plain)
    assert noisy.hides(plain)
    assert radiograph.as_seen([plain]) == (plain,)
    assert noisy.as_seen([plain])[0].faint
    other = lesion(EFFUSION)
    dim = replace(contralateral(other), contrast=0.05)
    assert [one.faint for one in radiograph.as_seen([plain, other, dim])] == [False, True, True]
    empty = replace(radiograph, right=replace(radiograph.right, mask=np.zeros_like(radiograph.right.mask)))
    with pytest.raises(CorpusError, match="empty"):
        empty.hides(plain)


def test_counterfactuals_stay_in_the_split_of_their_subject() -> None:
    for number in range(40):
        subject = f"nih-chestxray14:{number}"
        assert split_of(f"manifest:{subject}") == split_of(subject)
        assert fold_of(f"manifest:{subject}", 5) == fold_of(subject, 5)
    assert {split_of(f"manifest:p{n}") for n in range(60)} == {"train", "val", "test"}


def test_a_mirrored_image_has_its_lungs_exchanged(radiograph: NormalRadiograph) -> None:
    turned = radiograph.mirrored()
    assert (turned.image == radiograph.image[:, ::-1]).all()
    one = lesion(NODULE)
    assert (turned.masks([contralateral(one)])[NODULE] == radiograph.masks([one])[NODULE][:, ::-1]).all()


def test_an_enlarged_heart_cannot_be_drawn_and_is_left_out_of_scenes(radiograph: NormalRadiograph) -> None:
    hearts = [n for n in range(40) if CARDIOMEGALY in {one.finding for one in scene(3, n).lesions}]
    assert hearts
    for number in hearts:
        assert CARDIOMEGALY not in {one.finding for one in drawable_scene(3, number).lesions}
    with pytest.raises(CorpusError, match="not drawn into a lung"):
        radiograph.with_lesions([Lesion(CARDIOMEGALY, None, None, 0.6, 1.0, False, 0.5, 0.0, 1)])


def test_each_subject_gives_one_normal_radiograph_of_the_requested_split() -> None:
    problems: list[Problem] = []
    source = PhantomSource(60, seed=21)
    radiographs = dict(normal_radiographs(source, "train", problems.append))
    assert radiographs
    normal = {study.subject_id for study in source.studies(print) if is_normal(study.findings)}
    assert radiographs.keys() <= {subject for subject in normal if split_of(subject) == "train"}
    first = next(iter(radiographs))
    left = dict(normal_radiographs(source, "train", print, leave_out=lambda subject: subject == first))
    assert left.keys() == radiographs.keys() - {first}


def test_the_command_writes_a_source_to_train_on_and_the_truth_to_measure_with(tmp_path: Path) -> None:
    out = tmp_path / "films"
    words = ["corpus", "counterfactual", "phantom:40@21", "--out", str(out), "--per-film", "2", "--seed", "5"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    studies = list(open_source(f"manifest:{out / 'manifest.csv'}").studies(print))
    assert str(len(studies)) in done.stdout
    marks = {file_image.name: file_image for file_image in MaskFolder.open(out).read(print)}
    result = 0
    for number, study in enumerate(studies):
        scene_sure = {one.finding for one in drawable_scene(5, number).lesions if not one.faint}
        sure = present_leaves(label_study(study).findings)
        assert sure <= scene_sure
        name = Path(study.images[0].location).name
        assert (set(marks[name].structures) if name in marks else set()) == sure
        result += len(sure)
        if name in marks:
            assert f"manifest:{marks[name].subject_id}" == study.subject_id
    assert result
    again = CliRunner().invoke(cli, words)
    assert isinstance(again.exception, CorpusError)
    assert "new folder" in str(again.exception)


def test_lesions_are_drawn_in_the_millimetres_of_a_known_spacing() -> None:
    image = render(bodies(1)[0])
    result = NormalRadiograph.of(image, Spacing(2.0, 0.5))
    assert result.right.mm_per_pixel == result.left.mm_per_pixel == 1.0
    assert NormalRadiograph.of(image).right.mm_per_pixel != 1.0
