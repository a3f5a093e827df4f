"""The demonstration's page and the table: whatever a report holds is shown, never run."""

from corpus.findings import Status, from_sides
from retrieval.answer import Answer, Case, Evidence, Hit
from retrieval.demo.page import Page, Panel, agreement, card_of, chips, write
from retrieval.table import answer_text, findings_of

NASTY = '<script>alert("x")</script> [bold]not markup[/bold] & "quotes"'
SAID = Evidence("manifest:1#report.0", "sentence", 0.4, NASTY)
FINDINGS = from_sides(["nodule", "edema"], [], ["mass"])
CASE = Case("manifest:<u>1</u>", "manifest:p", "manifest", None, NASTY, None, FINDINGS)
HIT = Hit(1, 0.5, "case", "manifest:1#report", CASE, (SAID,))
ANSWER = Answer({"for": "cases"}, {"name": "tiny", "fingerprint": "0" * 64}, (HIT,))


def test_what_a_report_holds_is_escaped_on_the_page() -> None:
    card = card_of(HIT, CASE.findings, single=False)
    page = write(Page((("<i>", "1"),), (Panel("h", "e", "c", card, (card,), "a", "t"),), (), (), "0"))
    assert "<script>" not in page
    assert "<u>1</u>" not in page
    assert "&lt;script&gt;" in page


def test_what_a_report_holds_is_no_markup_in_the_table() -> None:
    assert "[bold]not" in answer_text(ANSWER, 200).replace("\n", " ")


def test_a_parent_is_not_shown_beside_its_child() -> None:
    assert [chip.label for chip in chips(CASE.findings)] == ["edema", "nodule", "mass?"]
    assert findings_of(CASE) == "edema, nodule, mass?"


def test_agreement_counts_shared_present_findings() -> None:
    assert agreement(ANSWER, from_sides(["nodule"])) == "1 of 1 share a finding with the query"
    assert agreement(ANSWER, from_sides(["fracture"])) == "0 of 1 share a finding with the query"
    assert [chip.shared for chip in chips(CASE.findings, {"nodule": Status.PRESENT})] == [False, True, False]
