"""The demonstration's page: whatever a report contains is shown, never run; what is shown agrees with it."""

from corpus.findings import Status, make_statuses
from indexer.catalog.studies import Case
from retrieval.answer import Answer, Evidence, Hit
from retrieval.demo.cards import agreement, card_of, chips
from retrieval.demo.page import DraftedSentence, DraftPanel, Page, Panel, write

NASTY = '<script>alert("x")</script> & "quotes"'
SENTENCE = Evidence("manifest:1#report.0", "sentence", 0.4, NASTY)
FINDINGS = make_statuses(["nodule", "edema"], [], ["mass"])
CASE = Case("manifest:<u>1</u>", "manifest:p", "manifest", None, NASTY, None, FINDINGS)
HIT = Hit(1, 0.5, "case", "manifest:1#report", CASE, (SENTENCE,))
ANSWER = Answer({"for": "cases"}, {"name": "tiny", "fingerprint": "0" * 64}, (HIT,))


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
