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
from corpus.findings import from_sides, is_normal, present_leaves
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
    """An encoder by hand: a picture is its mean grey, a text the number in it, as an angle."""

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

    held: list[Study]
    problems: tuple[Problem, ...] = ()
    name: str = "listed"

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        for problem in self.problems:
            on_problem(problem)
        yield from self.held


def left_out(count: int, skip: int = 0) -> list[str]:
    """Subjects of the test split."""
    ids = (f"listed:p{number}" for number in range(10_000))
    return [i for i in ids if split_of(i) == "test"][skip : skip + count]


@pytest.fixture
def films(tmp_path: Path) -> list[Study]:
    """Twelve studies, each of its own grey and with a report that tells the grey; by turns two findings."""
    studies = []
    for number, subject in enumerate(left_out(12)):
        file = tmp_path / f"film{number}.png"
        stripes = 20 * number + 5 + np.tile([-4, 4], (32, 16))  # a film of one value is refused as blank
        Image.fromarray(stripes.astype(np.uint8)).save(file)
        study_id = f"listed:{number}"
        studies.append(
            Study(
                study_id,
                subject,
                "listed",
                (ImageRef(f"{study_id}#film{number}", str(file)),),
                Report(f"{study_id}#report", (Section("findings", f"grey {20 * number + 5}"),)),
                from_sides(present=["edema" if number % 2 else "hernia"]),
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


def test_a_picture_finds_its_own_report_across_kinds_and_recall_counts_it(films: list[Study]) -> None:
    record = evaluate(Mean(), Listed(films), Listed(films))
    assert record["recall_at"] == {str(k): 1.0 for k in RECALL_AT}
    assert record["precision_at"]["1"] == 1.0


def test_the_same_sources_and_seed_give_the_same_record(films: list[Study]) -> None:
    record = evaluate(Mean(), Listed(films), Listed(films), seed=5)
    assert record == evaluate(Mean(), Listed(films), Listed(films), seed=5)
    assert record != evaluate(Mean(), Listed(films), Listed(films), seed=6)


def test_sources_without_true_pairs_have_no_recall(films: list[Study]) -> None:
    other = [replace(study, study_id=f"other:{number}") for number, study in enumerate(films)]
    record = evaluate(Mean(), Listed(films), Listed(other))
    assert record["recall_at"] is None
    assert record["ci95"]["recall_at"] is None


def test_within_one_kind_nothing_of_the_querys_own_subject_is_answered(films: list[Study]) -> None:
    films[1] = replace(films[1], subject_id=films[0].subject_id)
    side = encode(gather(Listed(films), "image"), Mean())
    task = make_task(side.items, side.items)
    excluded = {(int(q), int(g)) for q, g in task.excluded}
    assert excluded == {(i, i) for i in range(12)} | {(0, 1), (1, 0)}
    # Neighbours in grey have the other finding: only the film itself would be right at the first place.
    assert evaluate_vectors(side, side, draws=10)["precision_at"]["1"] < 0.5


def test_identical_pixels_and_texts_count_once_and_stay_of_all_who_have_them(
    films: list[Study], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.png"
    Image.open(films[0].images[0].location).save(copy, compress_level=0)
    twin = replace(
        films[0],
        study_id="listed:twin",
        subject_id=left_out(1, skip=20)[0],
        images=(ImageRef("listed:twin#copy", str(copy)),),
        report=Report("listed:twin#report", (Section("findings", "  grey \n 5"),)),
    )
    for kind in ("image", "report"):
        encoded = encode(gather(Listed([*films, twin]), kind), Mean())  # type: ignore[arg-type]
        assert len(encoded.items) == len(encoded.vectors) == 12
        assert encoded.items[0].study_ids == {"listed:0", "listed:twin"}
        assert len(encoded.items[0].owners) == 2
    record = evaluate(Mean(), Listed([*films, twin]), Listed(films))
    assert record["queries"]["duplicates"] == 1


def test_items_that_nothing_can_match_are_dropped_and_counted_on_both_sides(films: list[Study]) -> None:
    films[3] = replace(films[3], findings=from_sides(absent=["edema"]))
    record = evaluate(Mean(), Listed(films), Listed(films))
    assert record["queries"]["dropped"] == record["gallery"]["dropped"] == 1
    assert record["queries"]["items"] == 11


def test_an_unreadable_picture_is_recorded_with_its_reason_and_the_job_goes_on(films: list[Study]) -> None:
    Path(films[2].images[0].location).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    absent = Problem("listed:77#film", "missing", "not in the folder")
    record = evaluate(Mean(), Listed(films, (absent,)), Listed(films))
    counts = record["queries"]
    assert (counts["items"], counts["failed"], counts["missing"]) == (11, 1, 1)
    assert counts["failures"][0]["item_id"] == "listed:2#film2"
    jsonschema.validate(record, SCHEMA)


def test_only_subjects_of_the_split_are_asked_and_held(films: list[Study]) -> None:
    trained = next(i for i in (f"q{n}" for n in range(100)) if split_of(i) == "train")
    studies = [*films, replace(films[0], subject_id=trained)]
    assert gather(Listed(studies)).found == 12
    assert gather(Listed(studies), split="train").found == 1
    assert gather(Listed(studies), split="all").found == 13


def test_people_the_encoder_was_trained_on_stop_the_evaluation_unless_allowed(films: list[Study]) -> None:
    encoder = Mean(record={"subjects": subjects_record([films[0].subject_id, films[1].subject_id, "other"])})
    with pytest.raises(EvaluationError, match="trained on 2 of the 12 people"):
        evaluate(encoder, Listed(films), Listed(films))
    record = evaluate(encoder, Listed(films), Listed(films), allow_seen=True)
    assert record["seen_subjects"] == 2


def test_truth_replaces_the_statuses_of_the_side_it_names_and_only_for_scoring(films: list[Study]) -> None:
    gallery = [replace(s, study_id=f"openi:{n}", source="openi") for n, s in enumerate(films)]
    told = {f"openi:{n}": from_sides(present=["mass"]) for n in range(11)}
    encoder = Mean()
    record = evaluate(encoder, Listed(films), Listed(gallery), truth=Truth(told, ("mass",)))
    assert (record["queries"]["labels"], record["gallery"]["labels"]) == ("source", "truth")
    assert record["gallery"]["dropped"] == 1  # the study without a row is not scored by its own statuses
    assert record["precision_at"]["10"] == 0
    assert all("mass" not in text for text in encoder.texts)
    jsonschema.validate(record, SCHEMA)


def test_a_truth_table_of_other_studies_is_wrong_usage(films: list[Study]) -> None:
    with pytest.raises(UsageError, match="names none of the studies"):
        evaluate(Mean(), Listed(films), Listed(films), truth=Truth({"openi:1": {}}, ("edema",)))


def test_a_kind_the_source_does_not_hold_is_named_with_what_it_holds(films: list[Study]) -> None:
    with pytest.raises(UsageError, match="holds no reports; it holds images"):
        gather(Listed([replace(study, report=None) for study in films]), "report")
    with pytest.raises(UsageError, match="no picture and no report"):
        gather(Listed([]))


def test_auto_takes_the_only_kind_there_is_whatever_is_preferred(films: list[Study]) -> None:
    texts = Listed([replace(study, images=()) for study in films])
    assert gather(texts, prefer="image").kind == "report"
    assert gather(Listed(films), prefer="report").kind == "report"


def test_a_side_with_nothing_to_score_is_an_error_that_says_what_was_found(films: list[Study]) -> None:
    blank = Listed([replace(study, findings={}) for study in films])
    with pytest.raises(EvaluationError, match="of 12 reports in the split 'test' 12 have no known finding"):
        evaluate(Mean(), Listed(films), blank)


def held(names: Sequence[Sequence[str]], source: str = "s") -> Encoded:
    """Items that show what is named, each of a study and a person of its own."""
    items = [
        Item(
            f"{source}:{n}#x", "image", Study(f"s:{n}", f"s:p{n}", source), "", from_sides(present=shown),
            frozenset([(source, f"s:p{n}")]), frozenset([f"s:{n}"]),
        )
        for n, shown in enumerate(names)
    ]  # fmt: skip
    return Encoded(tuple(items), np.eye(len(items), dtype=np.float32))


MIXED = [["edema"], ["hernia"], ["no_finding"], ["edema", "hernia"], ["no_finding", "support_devices"]] * 9


def test_a_balanced_set_holds_so_many_of_each_class_and_nothing_of_two() -> None:
    asked, told, drawn = balance(held(MIXED), held([*MIXED, *[["mass"]] * 3], "t"), 8)
    assert drawn.classes == ("edema", "hernia", "no_finding")
    assert drawn.too_few == {"mass": (0, 3)}
    for side in (asked, told):
        classes = Labels.of(item.statuses for item in side.items).classes
        counts = {CLASSES[place]: int((classes == place).sum()) for place in set(classes.tolist())}
        assert counts == {"edema": 8, "hernia": 8, "no_finding": 8}
        assert len(side.vectors) == 24
    assert (asked.not_drawn, told.not_drawn) == (45 - 24, 48 - 24)


def test_the_seed_draws_a_balanced_set_and_pairs_stay_together() -> None:
    def drawn(seed: int) -> tuple[list[str], list[str]]:
        sides = balance(held(MIXED), held(MIXED, "t"), 4, seed=seed)[:2]
        return tuple([item.study.study_id for item in side.items] for side in sides)  # type: ignore[return-value]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1)[0] == drawn(1)[1]


def test_what_is_drawn_depends_on_the_studies_and_not_on_their_order() -> None:
    whole = held(MIXED)
    turned = whole.take(range(len(whole.items))[::-1])
    first, second = (balance(side, side, 5, seed=3)[0] for side in (whole, turned))
    assert {item.item_id for item in first.items} == {item.item_id for item in second.items}
    for side in (first, second):
        for item, vector in zip(side.items, side.vectors, strict=True):
            assert vector.argmax() == int(item.item_id.split(":")[1].split("#")[0])


def test_on_a_balanced_set_chance_and_a_constant_answer_are_one_class_in_so_many() -> None:
    asked, told, _ = balance(held(MIXED), held(MIXED, "t"), 9)
    record = evaluate_vectors(asked, told)
    assert record["baselines"]["constant"]["precision_at"]["1"] == pytest.approx(1 / 3)
    assert record["baselines"]["random"]["precision_at"]["10"] == pytest.approx(1 / 3, abs=0.05)
    assert record["precision_at"]["1"] == 1.0  # the unit vectors are paired


def test_too_few_classes_to_balance_is_an_error_that_counts_them() -> None:
    with pytest.raises(
        EvaluationError, match=r"edema 9 and 9, hernia 9 and 9, no_finding 9 and 9.*--per-class"
    ):
        balance(held(MIXED), held(MIXED), 10)


def test_a_balanced_evaluation_says_what_was_drawn_and_accounts_for_every_item(films: list[Study]) -> None:
    films[11] = replace(films[11], findings=from_sides(present=["mass"]))
    record = evaluate(Mean(), Listed(films), Listed(films), per_class=4, seed=2)
    assert record["per_class"] == {
        "items": 4,
        "classes": ["edema", "hernia"],
        "left_out": [{"finding": "mass", "queries": 1, "gallery": 1}],
    }
    for side in ("queries", "gallery"):
        assert (record[side]["items"], record[side]["not_drawn"], record[side]["duplicates"]) == (8, 4, 0)
    assert record["recall_at"]["1"] == 1.0  # a film's own report was drawn with it
    jsonschema.validate(record, SCHEMA)


@dataclass
class Inverted(Mean):
    """Gives each text the vector of the one as far from the other end of the list."""

    name: str = "inverted"
    fingerprint: str = "1" * 64

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return super().encode_texts(texts)[::-1]


def test_another_encoder_is_compared_on_the_same_queries_metric_by_metric(films: list[Study]) -> None:
    record = evaluate(Mean(), Listed(films), Listed(films), against=Inverted(), seed=4)
    jsonschema.validate(record, SCHEMA)
    assert record["against"]["encoder"] == {"name": "inverted", "fingerprint": "1" * 64}
    told = record["against"]["metrics"]["precision_at_1"]
    alone = evaluate(Inverted(), Listed(films), Listed(films), seed=4)
    assert told["encoder"] == record["precision_at"]["1"] == 1.0
    assert told["against"] == alone["precision_at"]["1"] == 0.0  # the mirrored film has the other finding
    assert (told["difference"], told["ci95"], told["encoder_better"]) == (1.0, [1.0, 1.0], 1.0)


def test_people_the_other_encoder_was_trained_on_stop_the_comparison(films: list[Study]) -> None:
    other = Inverted(record={"subjects": subjects_record([films[0].subject_id])})
    with pytest.raises(EvaluationError, match="inverted was trained on 1 of the 12"):
        evaluate(Mean(), Listed(films), Listed(films), against=other)
    record = evaluate(Mean(), Listed(films), Listed(films), against=other, allow_seen=True)
    assert (record["seen_subjects"], record["against"]["seen_subjects"]) == (0, 1)


def test_zero_shot_and_probe_are_in_the_record_when_asked_and_keep_to_the_schema(encoder: Any) -> None:
    source = PhantomSource(300)
    record = evaluate(encoder, source, source, zero_shot=True, probe=True)
    jsonschema.validate(json.loads(json.dumps(record, allow_nan=False)), SCHEMA)
    assert record["zero_shot"]["pictures"] == record["probe"]["pictures"] == record["queries"]["items"]
    assert record["probe"]["train_pictures"] > 5 * record["probe"]["val_pictures"]
    rows = {row["finding"]: row["present"] for row in record["zero_shot"]["affirmed"]["per_finding"]}
    assert rows["no_finding"] == record["queries"]["normal"]


def test_pictures_of_the_gallery_are_classified_where_reports_ask(encoder: Any) -> None:
    source = PhantomSource(60)
    sides = {"query_kind": "report", "gallery_kind": "image", "split": "all"}
    record = evaluate(encoder, source, source, zero_shot=True, **sides)  # type: ignore[arg-type]
    assert record["zero_shot"]["pictures"] == record["gallery"]["items"]


def test_classifying_without_pictures_or_probing_what_it_learned_from_is_wrong_usage(
    films: list[Study],
) -> None:
    texts = Listed([replace(study, images=()) for study in films])
    with pytest.raises(UsageError, match="both sides are reports"):
        evaluate(Mean(), texts, texts, zero_shot=True)
    with pytest.raises(UsageError, match=r"cannot be measured.*--split test"):
        evaluate(Mean(), Listed(films), Listed(films), probe=True, split="val")


def test_a_probe_without_people_to_learn_from_is_an_error_that_names_the_split(films: list[Study]) -> None:
    with pytest.raises(EvaluationError, match="no picture with a known finding in the split 'train'"):
        evaluate(Mean(), Listed(films), Listed(films), probe=True)


@pytest.mark.real_data
def test_the_open_i_gold_scores_every_report_it_names_and_no_code_of_the_set_is_needed(data: Path) -> None:
    truth = read_truth(data / "openi-truth" / "openi_gold_std14.csv")
    side = gather(open_source(f"openi:{data / 'openi'}"), "report", truth=truth)
    assert side.under_truth
    assert side.found == len(side.items) + side.dropped
    assert side.dropped == sum(
        not (is_normal(told) or present_leaves(told))
        for study_id, told in truth.statuses.items()
        if split_of(study_id) == "test"
    )
