"""What items are compared by: findings, findings with place and degree, or words."""

import numpy as np
import pytest
from numpy.typing import NDArray

from corpus.errors import TrainingError
from corpus.findings import Statuses, make_statuses
from corpus.language.labeler import label_text
from trainer.data.items import ImageItem, Pool, Text
from trainer.data.target_vectors import target_vectors, word_vectors
from trainer.data.targets import TargetConfig, label_similarity
from trainer.train.config_file import read_config

RIGHT, LEFT = "Small right pleural effusion.", "Small left pleural effusion."
LARGE = "Large right pleural effusion."
CLEAR = "The lungs are clear. No pleural effusion."
HEART = "The heart is enlarged."


def image(number: int, statuses: Statuses, result: str | None = None) -> ImageItem:
    return ImageItem(f"a:{number}#x", "x.png", f"a:{number}", f"s{number}", statuses, result)


def pool(images: list[ImageItem], *texts: str) -> Pool:
    return Pool(tuple(images), tuple(Text(text, frozenset(), label_text(text)) for text in texts))


def similarity(items: Pool, **settings: object) -> NDArray[np.float32]:
    config = TargetConfig(**settings)  # type: ignore[arg-type]
    return label_similarity(*target_vectors(items, config), config.kind)


def test_findings_do_not_know_sides_and_concepts_do() -> None:
    items = pool([image(0, label_text(RIGHT), RIGHT)], RIGHT, LEFT, LARGE, HEART)
    by_finding = similarity(items, of="findings")[0]
    assert by_finding[0] == by_finding[1] == by_finding[2]
    by_concept = similarity(items, of="concepts")[0]
    assert by_concept[0] == pytest.approx(1.0, abs=1e-6)
    assert by_concept[0] > by_concept[1] > by_concept[3]  # the other side is still an effusion
    assert by_concept[0] > by_concept[2] > by_concept[3]  # so is another degree
    assert by_finding[3] <= 0


def test_an_image_with_labels_alone_is_an_effusion_on_no_side() -> None:
    items = pool([image(0, make_statuses(["pleural_effusion"]))], RIGHT, LEFT, HEART)
    result = similarity(items, of="concepts")[0]
    assert result[0] == pytest.approx(result[1], abs=1e-6)
    assert result[0] > result[2]


def test_laterality_zone_and_severity_have_the_configured_weight() -> None:
    items = pool([image(0, label_text(RIGHT), RIGHT)], LEFT)
    assert similarity(items, of="concepts", place=0.0) == pytest.approx(similarity(items, of="findings"))
    heavy, light = (float(similarity(items, of="concepts", place=weight)[0, 0]) for weight in (2.0, 0.2))
    assert heavy < light


def test_words_bring_an_image_to_its_own_report_and_to_ones_like_it() -> None:
    reports = [RIGHT, LEFT, CLEAR, HEART, "Clear lungs without effusion.", "Heart is mildly enlarged."]
    items = pool([image(0, {}, HEART), image(1, {}, RIGHT)], *reports)
    result = similarity(items, of="embedding")
    assert result[0].argmax() == 3
    assert result[0, 5] > result[0, 0]
    assert result[1].argmax() == 0
    assert result[1, 1] > result[1, 3]


def test_an_image_without_a_report_is_put_into_words_by_its_findings() -> None:
    effusions = [
        f"{size} {side} pleural effusion is present"
        for size in ("small", "large")
        for side in ("left", "right")
    ]
    items = pool([image(0, make_statuses(["pleural_effusion"]))], *effusions, HEART, "the heart is large")
    result = similarity(items, of="embedding")[0]
    assert result[:4].min() > result[4:].max()


def test_word_vectors_are_unit_rows_whatever_the_texts() -> None:
    texts = ["effusion on the left", "effusion on the right", "", "12 34", "unheard"]
    vectors = word_vectors(texts, dim=3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 0, 0], atol=1e-5)
    assert vectors.dtype == np.float32
    with pytest.raises(TrainingError, match="no word in common"):
        word_vectors(["left", "right"])


def test_many_texts_are_embedded_in_pieces_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    words = [f"{a}{b}" for a in "abcdef" for b in "uvwxyz"]
    texts = [" ".join(rng.choice(words, 6)) for _ in range(40)]
    whole = word_vectors(texts, dim=12)
    monkeypatch.setattr("trainer.data.target_vectors._CHUNK", 7)
    pieces = word_vectors(texts, dim=12)
    np.testing.assert_allclose(pieces @ pieces.T, whole @ whole.T, atol=1e-4)


def test_a_loss_by_words_needs_no_labels_and_one_by_findings_does() -> None:
    assert read_config(None, {}).needs_labels
    assert read_config(None, {"targets.of": "concepts"}).needs_labels
    assert not read_config(None, {"targets.of": "embedding"}).needs_labels
    assert not read_config(None, {"loss.name": "dhn-nce"}).needs_labels
    assert read_config(None, {"loss.name": "dhn-nce", "sampling.pairing": "matched"}).needs_labels
