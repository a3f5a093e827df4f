import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from corpus.errors import EvaluationError, UsageError
from corpus.findings import is_normal, make_statuses, present_leaves
from corpus.geometry import Framing
from corpus.records import ImageRef, Problem, ProblemSink, Report, Section, Study
from corpus.sources import open_source
from corpus.sources.phantom import PhantomSource
from corpus.splits import split_of
from corpus.truth import Truth, read_truth
from tests.encoders import build_tiny_encoder
from trainer.evaluation.evaluate import evaluate, evaluate_vectors, make_task
from trainer.evaluation.gallery import Encoded, Item, balance, encode, gather
from trainer.evaluation.labels import CLASSES, Labels
from trainer.evaluation.metrics import RECALL_AT
from trainer.runtime.training_overlap import subjects_record

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "contracts" / "evaluate.schema.json").read_text("utf-8")
)


@dataclass
class Mean:
    """An encoder by hand: an image is its mean grey, a text the number in it, as an angle."""

    name: str = "mean"
    fingerprint: str = "0" * 64
    record: dict[str, Any] = field(default_factory=dict)
    framing: Framing = field(default_factory=lambda: Framing(8))
    texts: list[str] = field(default_factory=list)

    def encode_framed(self, framed: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._turn(framed.mean(axis=(1, 2)))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        return self._turn(np.array([float(text.split()[-1]) / 255 for text in texts]))

    @staticmethod
    def _turn(angle: NDArray[Any]) -> NDArray[np.float32]:
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


@dataclass
class Listed:
    """A source of given studies."""

    available: list[Study]
    problems: tuple[Problem, ...] = ()
    name: str = "listed"

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        for problem in self.problems:
            on_problem(problem)
        yield from self.available


def left_out(count: int, skip: int = 0) -> list[str]:
    """Subjects of the test split."""
    ids = (f"listed:p{number}" for number in range(10_000))
    return [i for i in ids if split_of(i) == "test"][skip : skip + count]


@pytest.fixture
def radiographs(tmp_path: Path) -> list[Study]:
    """Twelve studies, each of its own grey and with a report that tells the grey; by turns two findings."""
    studies = []
    for number, subject in enumerate(left_out(12)):
        file = tmp_path / f"film{number}.png"
        stripes = (
            20 * number + 5 + np.tile([-4, 4], (32, 16))
        )  # a radiograph of one value is refused as blank
        Image.fromarray(stripes.astype(np.uint8)).save(file)
        study_id = f"listed:{number}"
        studies.append(
            Study(
                study_id,
                subject,
                "listed",
                (ImageRef(f"{study_id}#film{number}", str(file)),),
                Report(f"{study_id}#report", (Section("findings", f"grey {20 * number + 5}"),)),
                make_statuses(present=["edema" if number % 2 else "hernia"]),
            )
        )
    return studies


def test_a_real_encoders_record_keeps_to_the_schema_and_accounts_for_every_item(tmp_path: Path) -> None:
    from trainer.runtime.encoder import Encoder

    encoder = Encoder.load(build_tiny_encoder(tmp_path / "tiny"), device="cpu")
    source = PhantomSource(40)
    record = evaluate(encoder, source, source, split="all", seed=5)
    jsonschema.validate(json.loads(json.dumps(record, allow_nan=False)), SCHEMA)
    assert (record["queries"]["kind"], record["gallery"]["kind"]) == ("image", "report")
    for side in ("queries", "gallery"):
        counts = record[side]
        assert counts["found"] == 40 == counts["items"] + counts["dropped"] + counts["duplicates"]
    assert record["seed"] == 5


def test_an_image_finds_its_own_report_across_kinds_and_recall_counts_it(radiographs: list[Study]) -> None:
    record = evaluate(Mean(), Listed(radiographs), Listed(radiographs))
    assert record["recall_at"] == {str(k): 1.0 for k in RECALL_AT}
    assert record["precision_at"]["1"] == 1.0


def test_the_same_sources_and_seed_give_the_same_record(radiographs: list[Study]) -> None:
    record = evaluate(Mean(), Listed(radiographs), Listed(radiographs), seed=5)
    assert record == evaluate(Mean(), Listed(radiographs), Listed(radiographs), seed=5)
    assert record != evaluate(Mean(), Listed(radiographs), Listed(radiographs), seed=6)


def test_sources_without_true_pairs_have_no_recall(radiographs: list[Study]) -> None:
    other = [replace(study, study_id=f"other:{number}") for number, study in enumerate(radiographs)]
    record = evaluate(Mean(), Listed(radiographs), Listed(other))
    assert record["recall_at"] is None
    assert record["ci95"]["recall_at"] is None


def test_within_one_kind_nothing_of_the_querys_own_subject_is_answered(radiographs: list[Study]) -> None:
    radiographs[1] = replace(radiographs[1], subject_id=radiographs[0].subject_id)
    side = encode(gather(Listed(radiographs), "image"), Mean())
    task = make_task(side.items, side.items)
    excluded = {(int(q), int(g)) for q, g in task.excluded}
    assert excluded == {(i, i) for i in range(12)} | {(0, 1), (1, 0)}
    # Neighbours in grey have the other finding: only the radiograph itself would be right at the first place.
    assert evaluate_vectors(side, side, draws=10)["precision_at"]["1"] < 0.5


def test_identical_pixels_and_texts_count_once_and_stay_of_all_who_have_them(
    radiographs: list[Study], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.png"
    Image.open(radiographs[0].images[0].location).save(copy, compress_level=0)
    duplicate = replace(
        radiographs[0],
        study_id="listed:twin",
        subject_id=left_out(1, skip=20)[0],
        images=(ImageRef("listed:twin#copy", str(copy)),),
        report=Report("listed:twin#report", (Section("findings", "  grey \n 5"),)),
    )
    for kind in ("image", "report"):
        encoded = encode(gather(Listed([*radiographs, duplicate]), kind), Mean())  # type: ignore[arg-type]
        assert len(encoded.items) == len(encoded.vectors) == 12
        assert encoded.items[0].study_ids == {"listed:0", "listed:twin"}
        assert len(encoded.items[0].owners) == 2
    record = evaluate(Mean(), Listed([*radiographs, duplicate]), Listed(radiographs))
    assert record["queries"]["duplicates"] == 1


def test_items_that_nothing_can_match_are_dropped_and_counted_on_both_sides(radiographs: list[Study]) -> None:
    radiographs[3] = replace(radiographs[3], findings=make_statuses(absent=["edema"]))
    record = evaluate(Mean(), Listed(radiographs), Listed(radiographs))
    assert record["queries"]["dropped"] == record["gallery"]["dropped"] == 1
    assert record["queries"]["items"] == 11


def test_an_unreadable_image_is_recorded_with_its_reason_and_the_job_goes_on(
    radiographs: list[Study],
) -> None:
    Path(radiographs[2].images[0].location).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    absent = Problem("listed:77#film", "missing", "not in the folder")
    record = evaluate(Mean(), Listed(radiographs, (absent,)), Listed(radiographs))
    counts = record["queries"]
    assert (counts["items"], counts["failed"], counts["missing"]) == (11, 1, 1)
    assert counts["failures"][0]["item_id"] == "listed:2#film2"
    jsonschema.validate(record, SCHEMA)


def test_queries_and_gallery_contain_only_subjects_of_the_split(radiographs: list[Study]) -> None:
    trained = next(i for i in (f"q{n}" for n in range(100)) if split_of(i) == "train")
    studies = [*radiographs, replace(radiographs[0], subject_id=trained)]
    assert gather(Listed(studies)).found == 12
    assert gather(Listed(studies), split="train").found == 1
    assert gather(Listed(studies), split="all").found == 13


def test_subjects_the_encoder_was_trained_on_stop_the_evaluation_unless_allowed(
    radiographs: list[Study],
) -> None:
    encoder = Mean(
        record={"subjects": subjects_record([radiographs[0].subject_id, radiographs[1].subject_id, "other"])}
    )
    with pytest.raises(EvaluationError, match="trained on 2 of the 12 subjects"):
        evaluate(encoder, Listed(radiographs), Listed(radiographs))
    record = evaluate(encoder, Listed(radiographs), Listed(radiographs), allow_seen=True)
    assert record["seen_subjects"] == 2


def test_truth_replaces_the_statuses_of_the_side_it_names_and_only_for_scoring(
    radiographs: list[Study],
) -> None:
    gallery = [replace(s, study_id=f"openi:{n}", source="openi") for n, s in enumerate(radiographs)]
    result = {f"openi:{n}": make_statuses(present=["mass"]) for n in range(11)}
    encoder = Mean()
    record = evaluate(encoder, Listed(radiographs), Listed(gallery), truth=Truth(result, ("mass",)))
    assert (record["queries"]["labels"], record["gallery"]["labels"]) == ("source", "truth")
    assert record["gallery"]["dropped"] == 1  # the study without a row is not scored by its own statuses
    assert record["precision_at"]["10"] == 0
    assert all("mass" not in text for text in encoder.texts)
    jsonschema.validate(record, SCHEMA)


def test_a_truth_table_of_other_studies_is_wrong_usage(radiographs: list[Study]) -> None:
    with pytest.raises(UsageError, match="names none of the studies"):
        evaluate(Mean(), Listed(radiographs), Listed(radiographs), truth=Truth({"openi:1": {}}, ("edema",)))


def test_a_kind_the_source_does_not_hold_is_named_with_what_it_holds(radiographs: list[Study]) -> None:
    with pytest.raises(UsageError, match="holds no reports; it holds images"):
        gather(Listed([replace(study, report=None) for study in radiographs]), "report")
    with pytest.raises(UsageError, match="no image and no report"):
        gather(Listed([]))


def test_auto_takes_the_only_kind_there_is_whatever_is_preferred(radiographs: list[Study]) -> None:
    texts = Listed([replace(study, images=()) for study in radiographs])
    assert gather(texts, prefer="image").kind == "report"
    assert gather(Listed(radiographs), prefer="report").kind == "report"


def test_a_side_with_nothing_to_score_is_an_error_that_says_what_was_found(radiographs: list[Study]) -> None:
    blank = Listed([replace(study, findings={}) for study in radiographs])
    with pytest.raises(EvaluationError, match="of 12 reports in the split 'test' 12 have no known finding"):
        evaluate(Mean(), Listed(radiographs), blank)


def available(names: Sequence[Sequence[str]], source: str = "s") -> Encoded:
    """Items that show what is named, each of a study and a subject of its own."""
    items = [
        Item(
            f"{source}:{n}#x", "image", Study(f"s:{n}", f"s:p{n}", source), "", make_statuses(present=shown),
            frozenset([(source, f"s:p{n}")]), frozenset([f"s:{n}"]),
        )
        for n, shown in enumerate(names)
    ]  # fmt: skip
    return Encoded(tuple(items), np.eye(len(items), dtype=np.float32))


MIXED = [["edema"], ["hernia"], ["no_finding"], ["edema", "hernia"], ["no_finding", "support_devices"]] * 9


def test_a_balanced_set_holds_so_many_of_each_class_and_nothing_of_two() -> None:
    requested, result, drawn = balance(available(MIXED), available([*MIXED, *[["mass"]] * 3], "t"), 8)
    assert drawn.classes == ("edema", "hernia", "no_finding")
    assert drawn.too_few == {"mass": (0, 3)}
    for side in (requested, result):
        classes = Labels.of(item.statuses for item in side.items).classes
        counts = {CLASSES[position]: int((classes == position).sum()) for position in set(classes.tolist())}
        assert counts == {"edema": 8, "hernia": 8, "no_finding": 8}
        assert len(side.vectors) == 24
    assert (requested.not_drawn, result.not_drawn) == (45 - 24, 48 - 24)


def test_the_seed_draws_a_balanced_set_and_pairs_stay_together() -> None:
    def drawn(seed: int) -> tuple[list[str], list[str]]:
        sides = balance(available(MIXED), available(MIXED, "t"), 4, seed=seed)[:2]
        return tuple([item.study.study_id for item in side.items] for side in sides)  # type: ignore[return-value]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1)[0] == drawn(1)[1]


def test_what_is_drawn_depends_on_the_studies_and_not_on_their_order() -> None:
    whole = available(MIXED)
    turned = whole.take(range(len(whole.items))[::-1])
    first, second = (balance(side, side, 5, seed=3)[0] for side in (whole, turned))
    assert {item.item_id for item in first.items} == {item.item_id for item in second.items}
    for side in (first, second):
        for item, vector in zip(side.items, side.vectors, strict=True):
            assert vector.argmax() == int(item.item_id.split(":")[1].split("#")[0])


def test_on_a_balanced_set_chance_and_a_constant_answer_are_one_class_in_so_many() -> None:
    requested, result, _ = balance(available(MIXED), available(MIXED, "t"), 9)
    record = evaluate_vectors(requested, result)
    assert record["baselines"]["constant"]["precision_at"]["1"] == pytest.approx(1 / 3)
    assert record["baselines"]["random"]["precision_at"]["10"] == pytest.approx(1 / 3, abs=0.05)
    assert record["precision_at"]["1"] == 1.0  # the unit vectors are paired


def test_too_few_classes_to_balance_is_an_error_that_counts_them() -> None:
    with pytest.raises(
        EvaluationError, match=r"edema 9 and 9, hernia 9 and 9, no_finding 9 and 9.*--per-class"
    ):
        balance(available(MIXED), available(MIXED), 10)


def test_a_balanced_evaluation_says_what_was_drawn_and_accounts_for_every_item(
    radiographs: list[Study],
) -> None:
    radiographs[11] = replace(radiographs[11], findings=make_statuses(present=["mass"]))
    record = evaluate(Mean(), Listed(radiographs), Listed(radiographs), per_class=4, seed=2)
    assert record["per_class"] == {
        "items": 4,
        "classes": ["edema", "hernia"],
        "left_out": [{"finding": "mass", "queries": 1, "gallery": 1}],
    }
    for side in ("queries", "gallery"):
        assert (record[side]["items"], record[side]["not_drawn"], record[side]["duplicates"]) == (8, 4, 0)
    assert record["recall_at"]["1"] == 1.0  # a radiograph's own report was drawn with it
    jsonschema.validate(record, SCHEMA)


@dataclass
class Inverted(Mean):
    """Gives each text the vector of the one as far from the other end of the list."""

    name: str = "inverted"
    fingerprint: str = "1" * 64

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return super().encode_texts(texts)[::-1]


def test_another_encoder_is_compared_on_the_same_queries_metric_by_metric(radiographs: list[Study]) -> None:
    record = evaluate(Mean(), Listed(radiographs), Listed(radiographs), against=Inverted(), seed=4)
    jsonschema.validate(record, SCHEMA)
    assert record["against"]["encoder"] == {"name": "inverted", "fingerprint": "1" * 64}
    result = record["against"]["metrics"]["precision_at_1"]
    alone = evaluate(Inverted(), Listed(radiographs), Listed(radiographs), seed=4)
    assert result["encoder"] == record["precision_at"]["1"] == 1.0
    assert (
        result["against"] == alone["precision_at"]["1"] == 0.0
    )  # the mirrored radiograph has the other finding
    assert (result["difference"], result["ci95"], result["encoder_better"]) == (1.0, [1.0, 1.0], 1.0)


def test_subjects_the_other_encoder_was_trained_on_stop_the_comparison(radiographs: list[Study]) -> None:
    other = Inverted(record={"subjects": subjects_record([radiographs[0].subject_id])})
    with pytest.raises(EvaluationError, match="inverted was trained on 1 of the 12"):
        evaluate(Mean(), Listed(radiographs), Listed(radiographs), against=other)
    record = evaluate(Mean(), Listed(radiographs), Listed(radiographs), against=other, allow_seen=True)
    assert (record["seen_subjects"], record["against"]["seen_subjects"]) == (0, 1)


def test_zero_shot_and_probe_are_in_the_record_on_request_and_match_the_schema(encoder: Any) -> None:
    source = PhantomSource(300)
    record = evaluate(encoder, source, source, zero_shot=True, probe=True)
    jsonschema.validate(json.loads(json.dumps(record, allow_nan=False)), SCHEMA)
    assert record["zero_shot"]["pictures"] == record["probe"]["pictures"] == record["queries"]["items"]
    assert record["probe"]["train_pictures"] > 5 * record["probe"]["val_pictures"]
    rows = {row["finding"]: row["present"] for row in record["zero_shot"]["affirmed"]["per_finding"]}
    assert rows["no_finding"] == record["queries"]["normal"]


def test_images_of_the_gallery_are_classified_where_reports_ask(encoder: Any) -> None:
    source = PhantomSource(60)
    sides = {"query_kind": "report", "gallery_kind": "image", "split": "all"}
    record = evaluate(encoder, source, source, zero_shot=True, **sides)  # type: ignore[arg-type]
    assert record["zero_shot"]["pictures"] == record["gallery"]["items"]


def test_classifying_without_images_or_probing_what_it_learned_from_is_wrong_usage(
    radiographs: list[Study],
) -> None:
    texts = Listed([replace(study, images=()) for study in radiographs])
    with pytest.raises(UsageError, match="both sides are reports"):
        evaluate(Mean(), texts, texts, zero_shot=True)
    with pytest.raises(UsageError, match=r"cannot be measured.*--split test"):
        evaluate(Mean(), Listed(radiographs), Listed(radiographs), probe=True, split="val")


def test_a_probe_without_subjects_to_learn_from_is_an_error_that_names_the_split(
    radiographs: list[Study],
) -> None:
    with pytest.raises(EvaluationError, match="no image with a known finding in the split 'train'"):
        evaluate(Mean(), Listed(radiographs), Listed(radiographs), probe=True)


@pytest.mark.real_data
def test_the_open_i_gold_scores_every_report_it_names_and_no_code_of_the_set_is_needed(data: Path) -> None:
    truth = read_truth(data / "openi-truth" / "openi_gold_std14.csv")
    side = gather(open_source(f"openi:{data / 'openi'}"), "report", truth=truth)
    assert side.under_truth
    assert side.found == len(side.items) + side.dropped
    assert side.dropped == sum(
        not (is_normal(result) or present_leaves(result))
        for study_id, result in truth.statuses.items()
        if split_of(study_id) == "test"
    )
