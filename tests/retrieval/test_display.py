"""The table of an answer: whatever a report holds is shown, never run."""

from corpus.findings import make_statuses
from indexer.catalog.studies import Case
from retrieval.answer import Answer, Evidence, Hit, findings_of
from retrieval.display import answer_text

NASTY = '<script>alert("x")</script> [bold]not markup[/bold] & "quotes"'
EVIDENCE = Evidence("manifest:1#report.0", "sentence", 0.4, NASTY)
FINDINGS = make_statuses(["nodule", "edema"], [], ["mass"])
CASE = Case("manifest:<u>1</u>", "manifest:p", "manifest", None, NASTY, None, FINDINGS)
HIT = Hit(1, 0.5, "case", "manifest:1#report", CASE, (EVIDENCE,))
ANSWER = Answer({"for": "cases"}, {"name": "tiny", "fingerprint": "0" * 64}, (HIT,))


def test_report_text_is_no_markup_in_the_table() -> None:
    assert "[bold]not" in answer_text(ANSWER, 200).replace("\n", " ")


def test_a_parent_is_not_shown_beside_its_child() -> None:
    assert findings_of(CASE) == "edema, nodule, mass?"
