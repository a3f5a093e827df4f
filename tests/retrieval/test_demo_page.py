"""The demonstration's page: whatever a report contains is shown, never run; what is shown agrees with it."""

from dataclasses import replace

from corpus.findings import Status, make_statuses
from indexer.catalog.studies import Case
from retrieval.answer import Answer, Evidence, Hit
from retrieval.demo.cards import agreement, card_of, chips
from retrieval.demo.evaluation import score_tables
from retrieval.demo.page import DraftedSentence, DraftPanel, Page, Panel, write
from retrieval.demo.searches import Question, answer_panel
from retrieval.query.query import Query

NASTY = '<script>alert("x")</script> & "quotes"'
SENTENCE = Evidence("manifest:1#report.0", "sentence", 0.4, NASTY)
FINDINGS = make_statuses(["nodule", "edema"], [], ["mass"])
CASE = Case("manifest:<u>1</u>", "manifest:p", "manifest", None, NASTY, None, FINDINGS)
HIT = Hit(1, 0.5, "case", "manifest:1#report", CASE, (SENTENCE,))
ANSWER = Answer({"for": "cases"}, {"name": "tiny", "fingerprint": "0" * 64}, (HIT,))
QUESTION = Question("h", "e", Query(text="edema"), FINDINGS)


def test_a_report_is_escaped_on_the_page() -> None:
    card = card_of(HIT, CASE.findings, single=False)
    panel = Panel("h", "e", "c", card, (card,), "a", True, "t", NASTY)
    draft = DraftPanel("e", "c", card, "h", (DraftedSentence(NASTY, (NASTY,), ((NASTY, NASTY),)),), (), NASTY)
    page = write(Page((("<i>", "1"),), panel, (), draft, (panel,), "1 of 1", (), (NASTY,), NASTY, (), "0"))
    assert "<script>" not in page
    assert "<u>1</u>" not in page
    assert "&lt;script&gt;" in page


def test_a_parent_is_not_shown_beside_its_child() -> None:
    assert [chip.label for chip in chips(CASE.findings)] == ["edema", "nodule", "mass?"]


def test_agreement_is_a_shared_present_finding() -> None:
    assert agreement(ANSWER, make_statuses(["nodule"])) == [True]
    assert agreement(ANSWER, make_statuses(["fracture"])) == [False]
    assert [chip.shared for chip in chips(CASE.findings, {"nodule": Status.PRESENT})] == [False, True, False]


def test_the_page_explains_its_scores_and_names_what_is_not_retrieved() -> None:
    card = card_of(HIT, CASE.findings, single=False)
    panel = answer_panel(QUESTION, ANSWER)
    draft = DraftPanel("e", "c", card, "h", (), (), "r")
    lifts = {"nodule": 0.04, "edema": 0.1, "mass": -0.2, "fracture": None}
    per_finding = [{"finding": name, "lift_at_5": lift, "in_macro": True} for name, lift in lifts.items()]
    table = {"precision_at": {"1": 1.0, "5": 1.0, "10": 1.0}, "lift_at_5": {"macro": 0.1}, "ndcg_at_10": 1.0}
    record = {
        **table,
        "queries": 1,
        "gallery": 1,
        "ci95": {**table, "precision_at": dict.fromkeys(("1", "5", "10")), "lift_at_5": {"macro": None}}
        | {"ndcg_at_10": None},
        "baselines": dict.fromkeys(("random", "constant", "normal_abnormal"), table),
        "per_finding": per_finding,
    }
    scores = score_tables({"image_to_report": record, "image_to_image": record})
    page = write(Page((), panel, (), draft, (panel,), "1 of 1", tuple(scores), (), "", (), "0"))
    assert page.count("This encoder does not retrieve: nodule, mass.") == 2
    assert page.count("Fused: rank score within this list, no probability.") == 1, "below the first panel"
    assert "First answer shares its finding (side not counted)" in page
    assert "own report (not used above)" in page


def test_a_guarantee_is_explained_and_another_reason_is_not() -> None:
    promised = replace(ANSWER, abstained=False, reason="At least 1 of these 1 share it (90%).")
    explained = " A statement of this kind is right in at least 9 of 10 searches."
    assert answer_panel(QUESTION, promised).note == f"{promised.reason}{explained}"
    assert answer_panel(QUESTION, replace(ANSWER, abstained=True, reason="No.")).note == "No."
    assert answer_panel(QUESTION, ANSWER).note == ""
