"""A draft neither repeats nor contradicts itself."""

from corpus.findings import Status
from retrieval.draft.draft import consistent, reconcile
from retrieval.draft.modifiers import LocatedSentence
from retrieval.draft.sentences import Sentence, claims_of
from retrieval.draft.votes import Vote

PRESENT, ABSENT = Status.PRESENT, Status.ABSENT


def cast(finding: str, status: Status, probability: float, *, stated: bool = True) -> Vote:
    return Vote(finding, status, probability, 9, 50, stated)


def named(votes: list[Vote]) -> list[tuple[str, str]]:
    return [(v.finding, v.status.value) for v in votes]


def test_a_vote_that_is_not_stated_is_dropped() -> None:
    assert reconcile([cast("edema", PRESENT, 0.9, stated=False)]) == []


def test_an_image_is_normal_or_has_findings_whichever_is_more_probable() -> None:
    votes = [cast("no_finding", PRESENT, 0.8), cast("nodule", PRESENT, 0.4)]
    assert named(reconcile(votes)) == [("no_finding", "present")]
    votes = [cast("no_finding", PRESENT, 0.3), cast("nodule", PRESENT, 0.4)]
    assert named(reconcile(votes)) == [("nodule", "present")]


def test_devices_are_stated_beside_a_normal_image() -> None:
    votes = [cast("no_finding", PRESENT, 0.8), cast("support_devices", PRESENT, 0.6)]
    assert named(reconcile(votes)) == [("no_finding", "present"), ("support_devices", "present")]


def test_no_absence_denies_what_is_stated() -> None:
    votes = [
        cast("lung_opacity", ABSENT, 0.95),
        cast("nodule", ABSENT, 0.95),
        cast("consolidation", PRESENT, 0.6),
    ]
    assert named(reconcile(votes)) == [("consolidation", "present"), ("nodule", "absent")]


def test_the_child_of_two_findings_is_stated() -> None:
    votes = [cast("lung_opacity", PRESENT, 0.6), cast("consolidation", PRESENT, 0.5)]
    assert named(reconcile(votes)) == [("consolidation", "present")]
    votes = [cast("lung_opacity", PRESENT, 0.9), cast("consolidation", PRESENT, 0.4)]
    assert ("lung_opacity", "present") in named(reconcile(votes))


def sentence(text: str) -> Sentence:
    claims = claims_of(text)
    assert claims is not None
    return Sentence(next(iter(claims)), LocatedSentence(text), claims, (), 1)


def test_repetitions_and_contradictions_are_dropped() -> None:
    given = [
        sentence("Pleural effusion and cardiomegaly."),
        sentence("There is a pleural effusion."),
        sentence("No pleural effusion or pneumothorax."),
        sentence("No pneumothorax."),
    ]
    assert [s.wording.text for s in consistent(given)] == [given[0].wording.text, given[3].wording.text]


def test_a_sentence_that_doubts_claims_nothing_that_can_be_stated() -> None:
    assert claims_of("Possible pneumonia.") is None
    assert claims_of("Normal chest.") == {"no_finding": PRESENT}
