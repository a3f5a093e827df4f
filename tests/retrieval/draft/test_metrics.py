"""The metrics of drafts equal their definitions."""

import pytest

from corpus.errors import UsageError
from retrieval.draft.metrics import DraftClaims, difference, radcliq, score_findings, score_words

EFFUSION, NODULE, EDEMA = "pleural_effusion", "nodule", "edema"


def claims(subject: str, claimed: set[str], true: set[str]) -> DraftClaims:
    return DraftClaims(subject, frozenset(claimed), frozenset(true))


def test_findings_are_counted_over_all_drafts() -> None:
    drafts = [
        claims("a", {EFFUSION, NODULE}, {EFFUSION}),
        claims("b", set(), {NODULE, EDEMA}),
        claims("c", {EDEMA}, {EDEMA}),
        claims("d", set(), set()),
    ]
    score = score_findings(drafts)
    assert score.precision == pytest.approx(2 / 3)
    assert score.recall == pytest.approx(2 / 4)
    assert score.f1 == pytest.approx(2 * 2 / (3 + 4))
    assert score.ci95[0] <= score.f1 <= score.ci95[1]


def test_the_interval_is_over_subjects_and_not_over_drafts() -> None:
    right, wrong = ({EFFUSION}, {EFFUSION}), ({EFFUSION}, {NODULE})
    few_subjects = [claims(f"p{n % 4}", *(right if n % 4 < 2 else wrong)) for n in range(200)]
    drafts = [claims(f"p{n}", *(right if n % 4 < 2 else wrong)) for n in range(200)]
    wide, narrow = score_findings(few_subjects).ci95, score_findings(drafts).ci95
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_a_difference_is_paired() -> None:
    drafts = [claims(str(n), {EFFUSION}, {EFFUSION} if n % 2 else {NODULE}) for n in range(60)]
    assert difference(drafts, drafts) == (0.0, (0.0, 0.0))
    nothing = [claims(one.subject, set(), set(one.true)) for one in drafts]
    ahead, (low, _) = difference(drafts, nothing)
    assert ahead == pytest.approx(0.5)
    assert low > 0.2


def test_words_agree_with_themselves_and_with_nothing_else() -> None:
    reports = ["There is a small right pleural effusion.", "No acute cardiopulmonary abnormality is seen."]
    same = score_words(reports, reports)
    assert same == {name: pytest.approx(1.0) for name in ("bleu", "bleu_2", "rouge_l")}
    other = score_words(["zzz", "yyy"], reports)
    assert max(other.values()) < 0.05
    assert score_words(["", reports[1]], reports)["rouge_l"] == pytest.approx(0.5)


def test_radcliq_is_the_published_weighted_sum() -> None:
    means = {
        "radgraph_f1": 0.53792312,
        "bertscore": 0.61757256,
        "chexbert_cosine": 0.76479421,
        "bleu_2": 0.44738335,
    }
    assert radcliq(means) == pytest.approx(0.0)
    one_scale_better = {**means, "radgraph_f1": means["radgraph_f1"] + 0.30282584}
    assert radcliq(one_scale_better) == pytest.approx(-0.37708368)
    assert radcliq({**means, "bleu_2": 0.0}) == pytest.approx(0.0)
    with pytest.raises(UsageError, match="bertscore"):
        radcliq({"radgraph_f1": 0.5})
