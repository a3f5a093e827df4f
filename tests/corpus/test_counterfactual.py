"""Lesions drawn into normal films: the lungs are found, and nothing but the lesion changes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from corpus.annotations import MaskFolder
from corpus.counterfactual.draw import LUNG_TO_MEDIASTINUM, NormalFilm, drawn_scene, moved, normal_films
from corpus.counterfactual.lungs import find_lungs
from corpus.dicom.spacing import Spacing
from corpus.errors import CorpusError
from corpus.findings import is_normal, present_leaves
from corpus.language.labeler import labeled
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
def film() -> NormalFilm:
    return NormalFilm.of(render(bodies(1)[0]))


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
        picture = np.asarray(image, np.float32).reshape(shape)
        assert find_lungs(picture) is None
        with pytest.raises(CorpusError, match="no two clear lungs"):
            NormalFilm.of(picture)


def test_no_lungs_are_found_on_a_film_printed_in_a_white_frame() -> None:
    picture = render(bodies(1)[0])
    framed = np.pad(np.pad(picture, 12, constant_values=0.0), 12, constant_values=1.0)
    assert find_lungs(picture) is not None
    assert find_lungs(framed) is None


def test_a_film_of_other_proportions_keeps_its_shape() -> None:
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
def test_only_the_lesions_place_changes_and_by_what_the_lesion_is(film: NormalFilm, finding: str) -> None:
    one = lesion(finding)
    drawn, mask = film.with_lesions([one]), film.masks([one])[finding]
    assert (drawn == film.image)[~mask].all()
    change = float((drawn - film.image)[mask].mean())
    assert change < -0.01 if finding == PNEUMOTHORAX else change > 0.04
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert mask[:, film.image.shape[1] // 2 :].sum() == 0  # the patient's right is on the picture's left
    fainter = film.with_lesions([replace(one, contrast=one.contrast / 2)])
    assert abs(float((fainter - film.image)[mask].mean())) < abs(change)
    assert film.masks([moved(one)])[finding][:, : film.image.shape[1] // 2].sum() == 0


def test_a_lesion_as_dense_as_the_mediastinum_looks_like_it() -> None:
    body = bodies(1)[0]
    film = NormalFilm.of(render(body))
    dark = film.image[film.right.mask]
    white = 1 - (1 - dark) * np.exp(-film.rate * LUNG_TO_MEDIASTINUM)
    heart = film.image[organs(body)["heart"]]
    assert abs(float(np.median(white)) - float(np.median(heart))) < 0.12
    one = replace(lesion(NODULE), contrast=LUNG_TO_MEDIASTINUM)
    core = film.masks([replace(one, size=2.0)])[NODULE]  # where its rays are longest
    assert np.allclose(
        film.with_lesions([one])[core],
        (1 - (1 - film.image) * np.exp(-film.rate * one.contrast))[core],
        atol=0.03,
    )


def test_what_a_film_hides_is_told_as_doubtful(film: NormalFilm) -> None:
    plain = replace(lesion(NODULE), contrast=0.95)
    noise = np.random.default_rng(0).normal(0, 0.12, film.image.shape).astype(np.float32)
    noisy = replace(film, image=np.clip(film.image + noise, 0, 1))
    assert not film.hides(plain)
    assert noisy.hides(plain)
    assert film.as_seen([plain]) == (plain,)
    assert noisy.as_seen([plain])[0].faint
    other = lesion(EFFUSION)
    dim = replace(moved(other), contrast=0.05)
    assert [one.faint for one in film.as_seen([plain, other, dim])] == [False, True, True]
    empty = replace(film, right=replace(film.right, mask=np.zeros_like(film.right.mask)))
    with pytest.raises(CorpusError, match="empty"):
        empty.hides(plain)


def test_films_made_of_a_persons_stay_on_that_persons_side() -> None:
    for number in range(40):
        person = f"nih-chestxray14:{number}"
        assert split_of(f"manifest:{person}") == split_of(person)
        assert fold_of(f"manifest:{person}", 5) == fold_of(person, 5)
    assert {split_of(f"manifest:p{n}") for n in range(60)} == {"train", "val", "test"}


def test_a_mirrored_film_has_its_lungs_exchanged(film: NormalFilm) -> None:
    turned = film.mirrored()
    assert (turned.image == film.image[:, ::-1]).all()
    one = lesion(NODULE)
    assert (turned.masks([moved(one)])[NODULE] == film.masks([one])[NODULE][:, ::-1]).all()


def test_an_enlarged_heart_cannot_be_drawn_and_is_left_out_of_scenes(film: NormalFilm) -> None:
    hearts = [n for n in range(40) if CARDIOMEGALY in {one.finding for one in scene(3, n).lesions}]
    assert hearts
    for number in hearts:
        assert CARDIOMEGALY not in {one.finding for one in drawn_scene(3, number).lesions}
    with pytest.raises(CorpusError, match="not drawn into a lung"):
        film.with_lesions([Lesion(CARDIOMEGALY, None, None, 0.6, 1.0, False, 0.5, 0.0, 1)])


def test_each_person_gives_one_normal_film_of_the_split_asked_for() -> None:
    problems: list[Problem] = []
    source = PhantomSource(60, seed=21)
    films = dict(normal_films(source, "train", problems.append))
    assert films
    normal = {study.subject_id for study in source.studies(print) if is_normal(study.findings)}
    assert films.keys() <= {subject for subject in normal if split_of(subject) == "train"}
    first = next(iter(films))
    left = dict(normal_films(source, "train", print, leave_out=lambda subject: subject == first))
    assert left.keys() == films.keys() - {first}


def test_the_command_writes_a_source_to_train_on_and_the_truth_to_measure_with(tmp_path: Path) -> None:
    out = tmp_path / "films"
    words = ["corpus", "counterfactual", "phantom:40@21", "--out", str(out), "--per-film", "2", "--seed", "5"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    studies = list(open_source(f"manifest:{out / 'manifest.csv'}").studies(print))
    assert str(len(studies)) in done.stdout
    marks = {picture.name: picture for picture in MaskFolder.open(out).read(print)}
    told = 0
    for number, study in enumerate(studies):
        scene_sure = {one.finding for one in drawn_scene(5, number).lesions if not one.faint}
        sure = present_leaves(labeled(study).findings)
        assert sure <= scene_sure
        name = Path(study.images[0].location).name
        assert (set(marks[name].structures) if name in marks else set()) == sure
        told += len(sure)
        if name in marks:
            assert f"manifest:{marks[name].subject_id}" == study.subject_id
    assert told
    again = CliRunner().invoke(cli, words)
    assert isinstance(again.exception, CorpusError)
    assert "new folder" in str(again.exception)


def test_lesions_are_drawn_in_the_films_own_millimetres_where_it_tells_them() -> None:
    image = render(bodies(1)[0])
    told = NormalFilm.of(image, Spacing(2.0, 0.5))
    assert told.right.mm_per_pixel == told.left.mm_per_pixel == 1.0
    assert NormalFilm.of(image).right.mm_per_pixel != 1.0
