from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from corpus.findings import NO_FINDING, Status, Statuses, is_normal, make_statuses
from corpus.geometry import Framing
from corpus.language.labeler import label_text
from corpus.records import Study
from corpus.statistics import draw_subjects
from trainer.evaluation.auroc import auroc
from trainer.evaluation.gallery import Encoded, Item
from trainer.evaluation.labels import CLASSES, LEAVES, Labels
from trainer.evaluation.scoring import Contrasts, score_classes
from trainer.evaluation.zero_shot import embed_prompts, score_single_findings, score_zero_shot

EDEMA, HERNIA, NORMAL = (CLASSES.index(name) for name in ("edema", "hernia", NO_FINDING))


class Reader:
    """An embedder by hand: the axes are the leaf findings and normality, by the labeler's reading."""

    framing = Framing(8)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return units([label_text(text) for text in texts])

    def encode_framed(self, framed: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError("images have their vectors already")


def units(statuses: Sequence[Statuses]) -> NDArray[np.float32]:
    """Present findings and normality as axes; a text that denies something leans towards normal."""
    rows = np.full((len(statuses), len(CLASSES)), 0.01, np.float32)
    for row, result in zip(rows, statuses, strict=True):
        for column, leaf in enumerate(LEAVES):
            row[column] += result.get(leaf) is Status.PRESENT
        row[NORMAL] += is_normal(result)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def images(statuses: Sequence[Statuses]) -> Encoded:
    items = [
        Item(
            f"s:{n}#f", "image", Study(f"s:{n}", f"s:p{n}", "s"), f"{n}.png", result, frozenset(), frozenset()
        )
        for n, result in enumerate(statuses)
    ]
    return Encoded(tuple(items), units(statuses))


def plain_auroc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Every positive against every negative."""
    pairs = [(p, n) for p in scores[positive] for n in scores[~positive]]
    return float(np.mean([(p > n) + 0.5 * (p == n) for p, n in pairs])) if pairs else float("nan")


scored_items = st.integers(1, 25).flatmap(
    lambda n: st.tuples(
        arrays.arrays(np.float64, n, elements=st.integers(-3, 3).map(float)),
        arrays.arrays(np.bool_, n),
        arrays.arrays(np.int64, n, elements=st.integers(0, 3)),
    )
)


@settings(max_examples=200, deadline=None)
@given(scored_items)
def test_auroc_is_the_share_of_pairs_in_order_ties_counting_half(
    case: tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]],
) -> None:
    scores, positive, _ = case
    assert auroc(scores, positive)[0] == pytest.approx(plain_auroc(scores, positive), nan_ok=True)


@settings(max_examples=200, deadline=None)
@given(scored_items)
def test_a_weighted_item_counts_as_so_many_items(
    case: tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]],
) -> None:
    scores, positive, counts = case
    repeated = plain_auroc(np.repeat(scores, counts), np.repeat(positive, counts))
    weights = np.stack([counts, np.ones_like(counts)]).astype(np.float64)
    areas = auroc(scores, positive, weights)
    assert areas == pytest.approx([repeated, plain_auroc(scores, positive)], nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(scored_items)
def test_auroc_reads_the_order_only_and_turns_about_with_the_sign(
    case: tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]],
) -> None:
    scores, positive, _ = case
    area = auroc(scores, positive)[0]
    assert auroc(np.exp(scores), positive)[0] == pytest.approx(area, nan_ok=True)
    assert auroc(-scores, positive)[0] == pytest.approx(1 - area, nan_ok=True)


def test_many_draws_in_blocks_are_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, positive, weights = rng.normal(size=40), rng.random(40) < 0.4, rng.integers(0, 4, (30, 40)) * 1.0
    whole = auroc(scores, positive, weights)
    monkeypatch.setattr("trainer.evaluation.auroc._WEIGHTS_AT_ONCE", 100)
    np.testing.assert_array_equal(auroc(scores, positive, weights), whole)


def test_a_nan_score_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        auroc(np.array([0.0, np.nan]), np.array([True, False]))


def test_a_finding_is_contrasted_with_absent_or_normal_and_never_with_unmentioned_or_uncertain() -> None:
    statuses = [
        make_statuses(present=["edema"]),
        make_statuses(absent=["edema"], present=["hernia"]),
        make_statuses(present=["hernia"]),  # silent about edema
        make_statuses(uncertain=["edema"], present=["hernia"]),
        make_statuses(present=[NO_FINDING]),
    ]
    contrasts = Contrasts.of(statuses)
    assert contrasts.present[:, EDEMA].tolist() == [True, False, False, False, False]
    assert contrasts.absent[:, EDEMA].tolist() == [False, True, False, False, True]
    assert contrasts.others[:, EDEMA].tolist() == [False, True, True, False, False]
    assert contrasts.present[:, NORMAL].tolist() == [False] * 4 + [True]
    assert contrasts.absent[:, NORMAL].tolist() == [True] * 4 + [False]
    assert not contrasts.others[:, NORMAL].any()


def test_normal_against_abnormal_earns_nothing_among_the_abnormal() -> None:
    statuses = [make_statuses(present=[name]) for name in ("edema", "hernia") for _ in range(15)]
    statuses += [make_statuses(present=[NO_FINDING])] * 20
    abnormal = np.array([not is_normal(result) for result in statuses], np.float64)
    result = score_classes(
        np.tile(abnormal[:, None], (1, len(CLASSES))), Contrasts.of(statuses), np.arange(50), draws=20
    )
    assert result["auroc"]["macro"] == 1.0
    assert result["auroc_abnormal"]["macro"] == 0.5
    assert set(result["auroc"]["findings"]) == {"edema", "hernia"}


def test_a_rare_finding_has_its_row_and_stays_out_of_the_macro() -> None:
    statuses = [make_statuses(present=["edema"])] * 12 + [make_statuses(present=["hernia"])] * 9
    statuses += [make_statuses(present=[NO_FINDING])] * 12
    scores = np.random.default_rng(0).normal(size=(33, len(CLASSES)))
    result = score_classes(scores, Contrasts.of(statuses), np.arange(33), draws=20)
    assert result["auroc"]["findings"] == ["edema"]
    assert [row["finding"] for row in result["per_finding"]] == ["edema", "hernia", NO_FINDING]
    assert result["per_finding"][1]["auroc"] is not None
    assert result["auroc_abnormal"]["findings"] == []


def test_the_macros_interval_is_of_the_mean_over_findings_in_each_draw() -> None:
    rng = np.random.default_rng(3)
    statuses = [make_statuses(present=[name]) for name in ("edema", "hernia") for _ in range(25)]
    statuses += [make_statuses(present=[NO_FINDING])] * 30
    scores, subjects = rng.normal(size=(80, len(CLASSES))), rng.integers(0, 60, 80)
    result = score_classes(scores, Contrasts.of(statuses), subjects, seed=4, draws=300)
    weights = draw_subjects(subjects, 300, 4)[:, np.unique(subjects, return_inverse=True)[1]]
    areas = []
    for name, start in (("edema", 0), ("hernia", 25)):
        chosen = np.r_[start : start + 25, 50:80]
        area = auroc(scores[chosen, CLASSES.index(name)], np.arange(55) < 25, weights[:, chosen])
        areas.append(area)
    bounds = np.percentile(np.mean(areas, axis=0), [2.5, 97.5])
    assert result["auroc"]["ci95"] == pytest.approx(list(bounds))


def test_an_encoder_with_ideal_text_vectors_classifies_every_radiograph() -> None:
    statuses = [make_statuses(present=[name]) for name in ("edema", "hernia", "mass") for _ in range(12)]
    statuses += [make_statuses(present=[NO_FINDING])] * 12
    result = score_zero_shot(images(statuses), Reader(), draws=20)
    for way in ("affirmed", "contrasted"):
        assert result[way]["auroc"] == {
            "macro": 1.0, "findings": ["edema", "mass", "hernia"], "ci95": [1.0, 1.0],
        }  # fmt: skip
        assert result[way]["auroc_abnormal"]["macro"] == 1.0
        assert {row["finding"]: row["auroc"] for row in result[way]["per_finding"]}[NO_FINDING] == 1.0
    assert result["single_finding"]["accuracy"] == 1.0


def test_the_prompts_of_a_class_are_unit_vectors_and_differ_affirmed_and_denied() -> None:
    prompts = embed_prompts(Reader())
    for side in (prompts.affirmed, prompts.denied):
        assert side.shape == (len(CLASSES), len(CLASSES))
        np.testing.assert_allclose(np.linalg.norm(side, axis=1), 1, atol=1e-5)
    assert prompts.affirmed.argmax(axis=1).tolist() == list(range(len(CLASSES)))
    assert (prompts.denied.argmax(axis=1) != np.arange(len(CLASSES))).all()


def test_accuracy_counts_radiographs_of_exactly_one_finding_and_says_what_naming_the_commonest_gives() -> (
    None
):
    statuses = [make_statuses(present=["edema"])] * 30 + [make_statuses(present=["hernia"])] * 10
    statuses += [make_statuses(present=["edema", "hernia"]), make_statuses(present=[NO_FINDING])] * 5
    statuses += [make_statuses(present=["mass"])] * 9  # too few to be a class
    scores = np.zeros((59, len(CLASSES)))
    scores[:, EDEMA] = 1
    scores[30:35, HERNIA] = 2
    scores[:, CLASSES.index("mass")] = 9
    result = score_single_findings(scores, Labels.of(statuses), np.arange(59), draws=200)
    assert result is not None
    assert result["pictures"] == 40
    assert result["classes"] == [
        {"finding": "edema", "pictures": 30, "recall": 1.0},
        {"finding": "hernia", "pictures": 10, "recall": 0.5},
    ]
    assert (result["accuracy"], result["balanced_accuracy"], result["largest_class"]) == (0.875, 0.75, 0.75)
    low, high = result["accuracy_ci95"]
    assert low < 0.875 < high


def test_one_class_alone_has_no_accuracy() -> None:
    labels = Labels.of([make_statuses(present=["edema"])] * 30)
    assert score_single_findings(np.zeros((30, len(CLASSES))), labels, np.arange(30)) is None


def test_an_item_is_of_a_class_by_its_only_finding_or_by_being_bare_and_normal() -> None:
    labels = Labels.of(
        [
            make_statuses(present=["edema"]),
            make_statuses(present=["edema", "mass"]),
            make_statuses(present=[NO_FINDING]),
            make_statuses(present=[NO_FINDING, "support_devices"]),
            make_statuses(present=["lung_opacity"]),
            make_statuses(present=["edema"], uncertain=["mass"]),
        ]
    )
    assert labels.classes.tolist() == [EDEMA, -1, NORMAL, -1, -1, EDEMA]
