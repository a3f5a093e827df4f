"""All localizers have the same measures: an oracle is always right, baselines ignore the image."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from corpus.annotations import (
    AnnotatedImage,
    AnnotationSet,
    BoxTable,
    PhantomAnnotations,
    open_annotations,
)
from corpus.errors import EvaluationError
from corpus.normal_images import normal_images
from corpus.records import Problem, ProblemSink
from corpus.sources.nih_chestxray14 import NAME as NIH
from corpus.splits import split_of
from retrieval.localize.answer import Localization
from retrieval.localize.evaluation.aggregation import record
from retrieval.localize.evaluation.baselines import BASELINES
from retrieval.localize.evaluation.evaluate import METRICS, measure_localizers, phrase_of
from retrieval.localize.localizer import localize
from trainer.runtime.encoder import Encoder

CONTRACTS = Path(__file__).parents[2] / "docs" / "contracts"
Image = NDArray[np.float32]


def answer(phrase: str, heat: Image, mask: NDArray[np.bool_] | None) -> Localization:
    return Localization(
        phrase, None, "oracle", None, heat, mask, None if mask is not None else "no", 1.0, 0.5
    )


class Oracle:
    """A localizer that knows the ground truth of every image, by its pixels."""

    def __init__(self, annotations: AnnotationSet) -> None:
        self.truths = {
            annotated.image.tobytes(): annotated.structures for annotated in annotations.read(print)
        }
        self.requested: list[str] = []

    def __call__(self, image: Image, phrases: Sequence[str]) -> list[Localization]:
        self.requested.extend(phrases)
        names = {phrase_of(name)[0]: mask for name, mask in self.truths[image.tobytes()].items()}
        return [answer(phrase, names[phrase].astype(np.float32), names[phrase]) for phrase in phrases]


class AnnotationsInMemory:
    """Annotations that are read once."""

    kind = "phantom"

    def __init__(self, annotations: AnnotationSet) -> None:
        self.images = tuple(annotations.read(print))

    def __len__(self) -> int:
        return len(self.images)

    def read(self, on_problem: ProblemSink) -> Iterator[AnnotatedImage]:
        yield from self.images


@pytest.fixture(scope="module")
def annotations() -> AnnotationsInMemory:
    return AnnotationsInMemory(PhantomAnnotations(18, 4))


def refuses(image: Image, phrases: Sequence[str]) -> list[Localization]:
    return [answer(phrase, np.zeros_like(image), None) for phrase in phrases]


@pytest.fixture(scope="module")
def made(annotations: AnnotationsInMemory) -> dict[str, Any]:
    evaluation = measure_localizers(annotations, {"oracle": Oracle(annotations), "silent": refuses}, seed=3)
    return record(evaluation, ["oracle", "silent"], {"name": "e", "fingerprint": "f"}, "none", 3, 1.0)


def rows(made: dict[str, Any], structure: str) -> dict[str, dict[str, Any]]:
    (entry,) = (one for one in made["structures"] if one["structure"] == structure)
    return {row["method"]: row for row in entry["rows"]}


def test_an_oracle_is_right_and_a_localizer_that_refuses_has_no_mask(made: dict[str, Any]) -> None:
    for entry in made["structures"]:
        by_row = rows(made, entry["structure"])
        for metric in ("pointing", "iou", "dice", "nsd", "masked"):
            assert by_row["oracle"][metric]["mean"] == 1.0
            assert by_row["oracle"][metric]["ci95"] == [1.0, 1.0]
        assert by_row["oracle"]["side_right"]["mean"] in (1.0, None)
        assert (by_row["silent"]["dice"]["mean"], by_row["silent"]["masked"]["mean"]) == (0.0, 0.0)
        assert by_row["silent"]["pointing"]["mean"] < 0.5
    macro = {metric: made["macro"][0][metric] for metric in METRICS}
    assert macro == {**dict.fromkeys(METRICS, 1.0), "false_boxes": 0.0, "specificity": None}


def test_baselines_have_rows_and_the_mean_mask_finds_a_structure_of_constant_position(
    made: dict[str, Any],
) -> None:
    heart = rows(made, "cardiomegaly")
    assert [row for row in heart if heart[row]["baseline"]] == list(BASELINES)
    assert heart["mean_mask"]["dice"]["mean"] > 0.7
    assert heart["random"]["dice"]["mean"] < 0.3
    assert rows(made, "nodule")["mean_mask"]["dice"]["mean"] < 0.3


def test_the_record_meets_its_contract(made: dict[str, Any]) -> None:
    schema = json.loads((CONTRACTS / "evaluate-localization.schema.json").read_text("utf-8"))
    jsonschema.validate(json.loads(json.dumps(made, allow_nan=False)), schema)


@pytest.mark.parametrize(
    ("structure", "phrase", "finding"),
    [
        ("Ground Glass Opacities", "ground glass", "ground_glass"),
        ("Infiltrate", "infiltration", "infiltration"),
        ("Effusion", "pleural effusion", "pleural_effusion"),
        ("breast tumour, benign", "breast tumour, benign", None),
        ("Left Lung", "Left Lung", None),
    ],
)
def test_the_phrase_of_a_structure_is_its_finding_or_its_own_name(
    structure: str, phrase: str, finding: str | None
) -> None:
    assert phrase_of(structure) == (phrase, finding)


def test_a_structure_can_be_selected_by_any_of_its_names(annotations: AnnotationsInMemory) -> None:
    oracle = Oracle(annotations)
    evaluation = measure_localizers(annotations, {"oracle": oracle}, structures=["Effusion"])
    assert {question.structure for question in evaluation.questions} == {"pleural_effusion"}
    assert set(oracle.requested) == {"pleural effusion"}
    with pytest.raises(EvaluationError, match="has Hernia annotated"):
        measure_localizers(annotations, {"oracle": oracle}, structures=["Hernia"])


def test_subjects_that_the_encoder_was_trained_on_are_excluded_and_counted(
    annotations: AnnotationsInMemory,
) -> None:
    everyone = {annotated.subject_id for annotated in annotations.read(print)}
    some = set(sorted(everyone)[:5])
    evaluation = measure_localizers(annotations, {"r": refuses}, seen=some.__contains__)
    assert evaluation.seen_subjects == some
    assert evaluation.subjects == everyone - some
    assert (
        measure_localizers(annotations, {"r": refuses}, seen=some.__contains__, allow_seen=True).subjects
        == everyone
    )
    with pytest.raises(EvaluationError, match="--allow-seen"):
        measure_localizers(annotations, {"r": refuses}, seen=lambda subject: True)


class Broken:
    """A set without a readable image."""

    kind = "masks"

    def __len__(self) -> int:
        return 1

    def read(self, on_problem: ProblemSink) -> Iterator[AnnotatedImage]:
        on_problem(Problem("a.png", "failed", "'a.png' is blank"))
        yield from ()


def test_a_set_without_a_readable_image_is_refused_with_the_first_reason() -> None:
    with pytest.raises(EvaluationError, match=r"1 problems.*'a\.png' is blank"):
        measure_localizers(Broken(), {"r": refuses})


def test_a_split_is_measured_alone_and_the_baselines_use_all_annotations(
    annotations: AnnotationsInMemory,
) -> None:
    whole = measure_localizers(annotations, {"r": refuses}, seed=3)
    part = measure_localizers(annotations, {"r": refuses}, split="train", seed=3)
    assert part.subjects == {subject for subject in whole.subjects if split_of(subject) == "train"}
    assert 0 < part.left_out["other_splits"] == whole.images - part.images
    of_train = [q.scores.get("mean_mask") for q in whole.questions if split_of(q.subject) == "train"]
    assert [q.scores.get("mean_mask") for q in part.questions] == of_train


def test_a_split_with_a_subject_of_the_training_is_refused(annotations: AnnotationsInMemory) -> None:
    subjects = sorted({annotated.subject_id for annotated in annotations.images})
    trained = next(subject for subject in subjects if split_of(subject) == "train")
    with pytest.raises(EvaluationError, match=r"1 subjects of the split 'train'.*--allow-seen"):
        measure_localizers(annotations, {"r": refuses}, split="train", seen=trained.__eq__)
    allowed = measure_localizers(
        annotations, {"r": refuses}, split="train", seen=trained.__eq__, allow_seen=True
    )
    assert trained in allowed.subjects
    assert allowed.seen_subjects == {trained}
    others = measure_localizers(annotations, {"r": refuses}, split="test", seen=trained.__eq__)
    assert not others.seen_subjects


def marks_all(image: Image, phrases: Sequence[str]) -> list[Localization]:
    return [answer(phrase, image, np.ones(image.shape, np.bool_)) for phrase in phrases]


def marks_bright(image: Image, phrases: Sequence[str]) -> list[Localization]:
    return (marks_all if image.mean() > 0.45 else refuses)(image, phrases)


def test_specificity_is_the_share_of_normal_images_without_a_mask() -> None:
    phantoms = PhantomAnnotations(24, 4)
    normals = normal_images(phantoms)
    drawn = {annotated.name for annotated in phantoms.read(print)}
    assert len(normals) > 4
    assert not drawn & {normal.name for normal in normals}

    rows = {"none": refuses, "all": marks_all, "some": marks_bright}
    evaluation = measure_localizers(phantoms, rows, normals=normals, most_normals=4, seed=1)
    made = record(evaluation, list(rows), {"name": "e", "fingerprint": "f"}, "none", 1, 1.0)
    assert (made["normal_images"], made["normal_subjects"]) == (4, len(evaluation.normal_subjects))
    for entry in made["structures"]:
        assert entry["absent_questions"] == 4
        by_row = {row["method"]: row for row in entry["rows"]}
        assert by_row["none"]["specificity"] == {"count": 4, "mean": 1.0, "ci95": [1.0, 1.0]}
        assert by_row["all"]["specificity"]["mean"] == by_row["mean_mask"]["specificity"]["mean"] == 0.0
        assert by_row["all"]["masked"]["count"] == entry["questions"], "sensitivity is of annotated images"
    assert made["macro"][0]["specificity"] == 1.0


def test_normal_images_of_seen_subjects_are_counted_or_refused_as_annotated_ones(tmp_path: Path) -> None:
    few = AnnotationsInMemory(PhantomAnnotations(3, 4))
    normals = normal_images(PhantomAnnotations(24, 4))[:3]
    trained = normals[0].subject_id
    split = split_of(few.images[0].subject_id)
    of_split = replace(normals[0], subject_id=next(s for s in map(str, range(99)) if split_of(s) == split))
    lost = replace(normals[1], name="lost.png", location=str(tmp_path / "lost.png"))
    evaluation = measure_localizers(few, {"r": refuses}, normals=[*normals, lost], seen=trained.__eq__)
    assert evaluation.seen_subjects == {trained}
    assert (evaluation.left_out["seen"], evaluation.normal_images) == (1, 2)
    assert [(problem.item_id, problem.state) for problem in evaluation.problems] == [("lost.png", "missing")]
    with pytest.raises(EvaluationError, match=f"1 subjects of the split '{split}'"):
        measure_localizers(
            few, {"r": refuses}, split=split, normals=[of_split], seen=of_split.subject_id.__eq__
        )


def test_differences_from_the_mean_mask_are_paired_by_question(made: dict[str, Any]) -> None:
    names = [entry["structure"] for entry in made["structures"] if entry["questions"] > 1]
    surely = 0
    for name in names:
        by_row = rows(made, name)
        over = by_row["oracle"]["over_mean_mask"]["dice"]
        assert over["mean"] == pytest.approx(1 - by_row["mean_mask"]["dice"]["mean"], abs=1e-5)
        assert over["count"] == by_row["oracle"]["dice"]["count"]
        assert by_row["mean_mask"]["over_mean_mask"] is None
        silent = by_row["silent"]["over_mean_mask"]["dice"]
        assert silent["mean"] == -by_row["mean_mask"]["dice"]["mean"]
        surely += over["ci95"][0] > 0
    macro = {row["method"]: row for row in made["macro"]}
    assert macro["oracle"]["over_mean_mask"]["dice"]["above"] == len(names)
    assert macro["oracle"]["over_mean_mask"]["dice"]["surely_above"] == surely == len(names)
    assert macro["silent"]["over_mean_mask"]["dice"]["above"] == 0
    low, high = macro["mean_mask"]["ci95"]["dice"]
    assert low < macro["mean_mask"]["dice"] < high


@pytest.mark.real_data
def test_boxes_and_normal_images_of_the_published_set_are_measured(data: Path, encoder_folder: Path) -> None:
    """Six annotated and two normal radiographs of held-out patients, by a tiny untrained encoder."""
    nih = data / "nih-chestxray14"
    boxes = open_annotations(None, nih / "BBox_List_2017.csv", nih, print)
    assert isinstance(boxes, BoxTable)
    every = sorted(boxes.boxes)
    names = [name for name in every if split_of(f"{NIH}:{int(name.partition('_')[0])}") == "test"][:6]
    few = replace(boxes, boxes={name: boxes.boxes[name] for name in [*names, *every[:20]]})
    encoder = Encoder.load(encoder_folder, "cpu")
    evaluation = measure_localizers(
        few,
        {"patches": partial(localize, encoder, method="patches")},
        split="test",
        normals=normal_images(few),
        most_normals=2,
    )
    made = record(evaluation, ["patches"], {"name": "e", "fingerprint": "f"}, "none", 0, 1.0)
    schema = json.loads((CONTRACTS / "evaluate-localization.schema.json").read_text("utf-8"))
    jsonschema.validate(made, schema)
    assert (made["marks"], made["split"], made["pictures"]) == ("boxes", "test", 6)
    assert made["normal_images"] == 2
    assert {question.view for question in evaluation.questions} <= {"pa", "ap"}
    assert {question.sex for question in evaluation.questions} <= {"F", "M"}
    assert all(split_of(question.subject) == "test" for question in evaluation.absent_questions)
