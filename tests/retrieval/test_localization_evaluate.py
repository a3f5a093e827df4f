"""All localizers have the same measures: an oracle is always right, baselines ignore the image."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from corpus.annotations import AnnotatedImage, AnnotationSet, PhantomAnnotations
from corpus.errors import EvaluationError
from corpus.records import Problem, ProblemSink
from retrieval.localize.answer import Localization
from retrieval.localize.evaluation.aggregation import record
from retrieval.localize.evaluation.baselines import BASELINES
from retrieval.localize.evaluation.evaluate import METRICS, measure_localizers, phrase_of

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
