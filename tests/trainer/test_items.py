"""Training items come from any mix of sources, never from held-out subjects; batches are reproducible."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from corpus.errors import TrainingError
from corpus.findings import Status
from corpus.geometry import Framing
from corpus.records import Problem
from corpus.splits import split_of
from tests.trainer.studies import Few
from trainer.data.image_cache import decode
from trainer.data.items import Gathered, ImageItem, Pool, gather
from trainer.data.sampling import Pairing, Sampler, finding_keys, rarity, shared_out


def ignore(problem: Problem) -> None:
    raise AssertionError(problem)


@pytest.fixture
def paired(tmp_path: Path) -> Gathered:
    return gather([("few", Few(tmp_path))], "both", ignore)


def sampler(pool: Pool, pairing: Pairing = "independent", balance: float = 0.0, size: int = 8) -> Sampler:
    return Sampler(pool, pairing, size, size, balance, seed=1)


def test_no_subject_of_the_test_split_is_gathered_and_the_others_are_in_one_split(paired: Gathered) -> None:
    train = {image.subject_id for image in paired.train.images}
    val = {image.subject_id for image in paired.val.images}
    assert train
    assert val
    assert {split_of(subject) for subject in train} == {"train"}
    assert {split_of(subject) for subject in val} == {"val"}
    assert paired.subjects == train | val


def test_images_of_one_source_and_texts_of_another_make_a_corpus(tmp_path: Path) -> None:
    radiographs = Few(tmp_path, texts=False, labels=True, name="radiographs")
    words = Few(tmp_path, images=False, name="words")
    gathered = gather([("radiographs", radiographs), ("words", words)], "report", ignore)
    assert {image.study_id.split(":")[0] for image in gathered.train.images} == {"radiographs"}
    assert len(gathered.train.texts) == 3
    assert [count.source for count in gathered.sources] == ["radiographs", "words"]
    batch = sampler(gathered.train, size=3).plan(0)[0]
    assert len(batch.pairs) == 0


def test_identical_texts_are_one_item_that_knows_all_its_studies(paired: Gathered) -> None:
    texts = {text.text: text for text in paired.train.texts}
    assert len(texts) == len(paired.train.texts)
    denied = texts["No pleural effusion."]
    assert len(denied.studies) > 10
    assert denied.statuses == {"pleural_effusion": Status.ABSENT}


def test_table_labels_win_over_the_report_for_the_image(tmp_path: Path) -> None:
    gathered = gather(
        [("few", Few(tmp_path, labels=True, findings=["cardiomegaly", "no_finding"]))], "report", ignore
    )
    assert {key for image in gathered.train.images for key in finding_keys(image.statuses)} == {
        "cardiomegaly",
        "normal",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"texts": False, "labels": True}, "no texts to learn from"),
        ({"images": False}, "no images of training subjects"),
        ({"count": 1}, "one subject only"),
        ({"findings": ["cardiomegaly"], "labels": True}, None),
    ],
)
def test_a_corpus_that_cannot_teach_is_refused_in_one_line(
    tmp_path: Path, source: dict[str, object], message: str | None
) -> None:
    few = Few(tmp_path, **source)  # type: ignore[arg-type]
    if message is None:  # its texts still differ from each other
        gather([("few", few)], "both", ignore)
        return
    with pytest.raises(TrainingError, match=message):
        gather([("few", few)], "both", ignore)


def test_images_without_any_label_are_refused_for_a_loss_over_findings(tmp_path: Path) -> None:
    radiographs = Few(tmp_path, texts=False, name="radiographs")
    words = Few(tmp_path, images=False, name="words")
    with pytest.raises(TrainingError, match="no label is known of any of the corpus's images"):
        gather([("radiographs", radiographs), ("words", words)], "both", ignore)


def test_a_plan_is_the_same_again_and_another_for_another_epoch(paired: Gathered) -> None:
    drawn = sampler(paired.train)
    first, again, other = drawn.plan(0), drawn.plan(0), drawn.plan(1)
    for batch, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(batch.images, same.images)
        np.testing.assert_array_equal(batch.texts, same.texts)
    assert any(not np.array_equal(a.images, b.images) for a, b in zip(first, other, strict=True))


def test_an_epoch_shows_every_image_once_the_last_batch_being_short(paired: Gathered) -> None:
    plan = Sampler(paired.train, "independent", 7, 4, 0.0, seed=1).plan(0)
    shown = np.concatenate([batch.images for batch in plan])
    left_over = len(paired.train.images) % 7 == 1  # one image alone makes no batch
    assert len(np.unique(shown)) == len(shown) == len(paired.train.images) - left_over
    assert len(plan[0].texts) == 4


def test_known_pairs_of_an_independent_batch_are_of_one_study(paired: Gathered) -> None:
    found = 0
    for batch in sampler(paired.train, size=6).plan(0):
        for position, other in batch.pairs:
            image = paired.train.images[batch.images[position]]
            assert image.study_id in paired.train.texts[batch.texts[other]].studies
            found += 1
    assert found


def test_true_pairs_are_of_one_study_and_matched_ones_share_a_finding(paired: Gathered) -> None:
    images, texts = paired.train.images, paired.train.texts
    for batch in sampler(paired.train, "true").plan(0):
        assert set(batch.pairs[:, 0]) == set(range(len(batch.images)))
        for position, other in batch.pairs:
            assert images[batch.images[position]].study_id in texts[batch.texts[other]].studies
    for batch in sampler(paired.train, "matched").plan(0):
        assert set(batch.pairs[:, 0]) == set(range(len(batch.images)))
        for position, other in batch.pairs:
            shared = set(finding_keys(images[batch.images[position]].statuses))
            assert shared & set(finding_keys(texts[batch.texts[other]].statuses))


def test_a_text_that_several_images_drew_is_in_the_batch_once_and_no_negative_of_theirs(
    tmp_path: Path,
) -> None:
    """Twenty subjects with the same three reports: among true pairs no text may speak against its owner."""
    pool = gather([("few", Few(tmp_path))], "report", ignore).train
    for batch in sampler(pool, "true").plan(0):
        assert len(np.unique(batch.texts)) == len(batch.texts) <= 3
        own = {(int(position), int(other)) for position, other in batch.pairs}
        for position, number in enumerate(batch.images):
            for other, text in enumerate(batch.texts):
                available = pool.images[number].study_id in pool.texts[text].studies
                assert available == ((position, other) in own)


def test_true_pairing_of_sets_that_share_no_study_is_refused(tmp_path: Path) -> None:
    radiographs = Few(tmp_path, texts=False, labels=True, name="radiographs")
    words = Few(tmp_path, images=False, name="words")
    pool = gather([("f", radiographs), ("w", words)], "both", ignore).train
    with pytest.raises(TrainingError, match="no training image has a text of its own study"):
        sampler(pool, "true", size=4).plan(0)


def test_balance_draws_every_finding_about_as_often() -> None:
    rare, common = {"hernia": Status.PRESENT}, {"edema": Status.PRESENT}
    items = [rare] * 2 + [common] * 98
    as_they_are, balanced = rarity(items, 0.0), rarity(items, 1.0)
    assert as_they_are[:2].sum() == pytest.approx(0.02)
    assert balanced[:2].sum() == pytest.approx(0.5)
    drawn = Counter(np.random.default_rng(0).choice(100, 1000, p=balanced) < 2)
    assert 400 < drawn[True] < 600


def test_a_named_source_has_its_share_of_the_draws_and_the_others_share_the_rest() -> None:
    weights = np.array([1.0, 3.0, 1.0, 1.0])
    shared = shared_out(weights, ["a", "a", "b", "c"], {"a": 0.2})
    np.testing.assert_allclose(shared, [0.05, 0.15, 0.4, 0.4])
    np.testing.assert_allclose(shared_out(weights, ["b"] * 4, {"a": 0.2}), weights / 6)
    with pytest.raises(TrainingError, match="leave no image"):
        shared_out(weights, ["a"] * 4, {"a": 0.0})


def test_a_batch_larger_than_the_corpus_is_refused(paired: Gathered) -> None:
    with pytest.raises(TrainingError, match=r"a batch of 500 is larger than the corpus: \d+ images"):
        sampler(paired.train, size=500)


def test_images_are_decoded_once_and_broken_ones_are_reported(paired: Gathered, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    images = [
        *paired.train.images[:3],
        ImageItem("few:x#broken", str(broken), "few:x", "s", {}),
        paired.train.images[3],
    ]
    problems: list[Problem] = []
    stored = decode(images, Framing(32), tmp_path / "pixels.npy", problems.append)
    pixels = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    assert stored == [0, 1, 2, 4]
    assert pixels.dtype == np.uint8
    assert [bool(row.any()) for row in pixels] == [True] * 4 + [False]
    assert [(problem.item_id, problem.state) for problem in problems] == [("few:x#broken", "failed")]


def test_no_image_that_can_be_read_stops_the_run(tmp_path: Path) -> None:
    gone = ImageItem("few:x#gone", str(tmp_path / "gone.png"), "few:x", "s", {})
    with pytest.raises(TrainingError, match="none of the 1 images can be read"):
        decode([gone], Framing(32), tmp_path / "pixels.npy", lambda problem: None)


def test_an_image_is_paired_with_the_requested_number_of_its_texts_drawn_anew_each_time(
    paired: Gathered,
) -> None:
    drawn = Sampler(paired.train, "true", 8, 0, 0.0, 0, texts_per_picture=2)
    plans = [drawn.plan(epoch) for epoch in range(6)]
    met: dict[int, set[int]] = {}
    for batch in (batch for plan in plans for batch in plan):
        assert len(np.unique(batch.pairs[:, 0])) == len(batch.images)
        for position, other in batch.pairs:
            image, text = batch.images[position], batch.texts[other]
            assert paired.train.images[image].study_id in paired.train.texts[text].studies
            met.setdefault(int(image), set()).add(int(text))
    assert max(map(len, met.values())) > 2


def test_texts_are_made_for_radiographs_without_a_report_and_say_what_they_show(tmp_path: Path) -> None:
    radiographs = Few(tmp_path, texts=False, labels=True, name="radiographs")
    gathered = gather([("radiographs", radiographs)], "report", ignore, prompts=3, seed=1)
    again = gather([("radiographs", radiographs)], "report", ignore, prompts=3, seed=1)
    assert gathered == again
    findings = {image.study_id: image.statuses for image in gathered.train.images}
    for text in gathered.train.texts:
        for study in text.studies:
            assert findings[study] == text.statuses
    assert {study for text in gathered.train.texts for study in text.studies} == set(findings)


def test_a_cross_validation_gets_everyone_but_the_test_part_on_both_sides(tmp_path: Path) -> None:
    gathered = gather([("few", Few(tmp_path))], "sentence", ignore, whole=True)
    subjects = {f"few:subject{n}" for n in range(60) if split_of(f"few:subject{n}") != "test"}
    for pool in (gathered.train, gathered.val):
        assert {image.subject_id for image in pool.images} == subjects
        assert {subject for text in pool.texts for subject in text.subjects} == subjects
    assert len(gathered.val.texts) < len(gathered.train.texts)  # whole reports against sentences
    assert gathered.sources[0].subjects == len(subjects)
