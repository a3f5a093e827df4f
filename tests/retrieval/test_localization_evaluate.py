"""Localizers are measured alike: one that knows the truth is right, one that does not look is a baseline."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from corpus.annotations import Marked, Marks, PhantomMarks
from corpus.errors import EvaluationError
from corpus.records import Problem, ProblemSink
from retrieval.localize.answer import Localization
from retrieval.localize.evaluation.baselines import BASELINES
from retrieval.localize.evaluation.evaluate import METRICS, measure_localizers, phrase_of, record

CONTRACTS = Path(__file__).parents[2] / "docs" / "contracts"
Image = NDArray[np.float32]


def answer(phrase: str, heat: Image, mask: NDArray[np.bool_] | None) -> Localization:
    return Localization(phrase, None, "told", None, heat, mask, None if mask is not None else "no", 1.0, 0.5)


class Told:
    """A localizer that was told the truth of every picture, by its pixels."""

    def __init__(self, marks: Marks) -> None:
        self.truths = {picture.image.tobytes(): picture.structures for picture in marks.read(print)}
        self.asked: list[str] = []

    def __call__(self, image: Image, phrases: Sequence[str]) -> list[Localization]:
        self.asked.extend(phrases)
        names = {phrase_of(name)[0]: mask for name, mask in self.truths[image.tobytes()].items()}
        return [answer(phrase, names[phrase].astype(np.float32), names[phrase]) for phrase in phrases]


class Held:
    """Marks that are read once and kept."""

    kind = "phantom"

    def __init__(self, marks: Marks) -> None:
        self.pictures = tuple(marks.read(print))

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, on_problem: ProblemSink) -> Iterator[Marked]:
        yield from self.pictures


@pytest.fixture(scope="module")
def marks() -> Held:
    return Held(PhantomMarks(18, 4))


def refuses(image: Image, phrases: Sequence[str]) -> list[Localization]:
    return [answer(phrase, np.zeros_like(image), None) for phrase in phrases]


@pytest.fixture(scope="module")
def made(marks: Held) -> dict[str, Any]:
    measured = measure_localizers(marks, {"told": Told(marks), "silent": refuses}, seed=3)
    return record(measured, ["told", "silent"], {"name": "e", "fingerprint": "f"}, "none", 3, 1.0)


def rows(made: dict[str, Any], structure: str) -> dict[str, dict[str, Any]]:
    (entry,) = (one for one in made["structures"] if one["structure"] == structure)
    return {row["method"]: row for row in entry["rows"]}


def test_who_knows_the_truth_is_right_and_who_refuses_has_no_mask(made: dict[str, Any]) -> None:
    for entry in made["structures"]:
        told = rows(made, entry["structure"])
        for metric in ("pointing", "iou", "dice", "nsd", "masked"):
            assert told["told"][metric]["mean"] == 1.0
            assert told["told"][metric]["ci95"] == [1.0, 1.0]
        assert told["told"]["side_right"]["mean"] in (1.0, None)
        assert (told["silent"]["dice"]["mean"], told["silent"]["masked"]["mean"]) == (0.0, 0.0)
        assert told["silent"]["pointing"]["mean"] < 0.5
    assert made["macro"][0] == {"method": "told", "baseline": False, **dict.fromkeys(METRICS, 1.0)}


def test_baselines_stand_beside_and_the_mean_mask_finds_what_lies_always_in_one_place(
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
def test_structures_are_asked_for_by_their_finding_or_their_own_name(
    structure: str, phrase: str, finding: str | None
) -> None:
    assert phrase_of(structure) == (phrase, finding)


def test_one_structure_can_be_asked_for_by_any_of_its_names(marks: Held) -> None:
    told = Told(marks)
    measured = measure_localizers(marks, {"told": told}, structures=["Effusion"])
    assert {question.structure for question in measured.questions} == {"pleural_effusion"}
    assert set(told.asked) == {"pleural effusion"}
    with pytest.raises(EvaluationError, match="no picture has Hernia marked"):
        measure_localizers(marks, {"told": told}, structures=["Hernia"])


def test_people_whom_the_encoder_has_seen_are_left_out_and_counted(marks: Held) -> None:
    everyone = {picture.subject_id for picture in marks.read(print)}
    some = set(sorted(everyone)[:5])
    measured = measure_localizers(marks, {"r": refuses}, seen=some.__contains__)
    assert measured.seen_subjects == some
    assert measured.subjects == everyone - some
    assert (
        measure_localizers(marks, {"r": refuses}, seen=some.__contains__, allow_seen=True).subjects
        == everyone
    )
    with pytest.raises(EvaluationError, match="--allow-seen"):
        measure_localizers(marks, {"r": refuses}, seen=lambda subject: True)


class Broken:
    """A set of which nothing can be read."""

    kind = "masks"

    def __len__(self) -> int:
        return 1

    def read(self, on_problem: ProblemSink) -> Iterator[Marked]:
        on_problem(Problem("a.png", "failed", "'a.png' is blank"))
        yield from ()


def test_a_set_of_which_nothing_can_be_read_says_why() -> None:
    with pytest.raises(EvaluationError, match=r"1 problems.*'a\.png' is blank"):
        measure_localizers(Broken(), {"r": refuses})
