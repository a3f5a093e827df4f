"""A draft says nothing twice and nothing against itself."""

from corpus.findings import Status
from retrieval.draft.consistency import reconcile, unrepeated
from retrieval.draft.modifiers import Placed
from retrieval.draft.sentences import Sentence, claims_of
from retrieval.draft.votes import Vote

PRESENT, ABSENT = Status.PRESENT, Status.ABSENT


def cast(finding: str, status: Status, probability: float, *, stated: bool = True) -> Vote:
    return Vote(finding, status, probability, 9, 50, stated)


def named(votes: list[Vote]) -> list[tuple[str, str]]:
    return [(v.finding, v.status.value) for v in votes]


def test_a_vote_that_did_not_pass_is_nowhere() -> None:
    assert reconcile([cast("edema", PRESENT, 0.9, stated=False)]) == []


def test_a_film_is_normal_or_has_findings_whichever_is_likelier() -> None:
    votes = [cast("no_finding", PRESENT, 0.8), cast("nodule", PRESENT, 0.4)]
    assert named(reconcile(votes)) == [("no_finding", "present")]
    votes = [cast("no_finding", PRESENT, 0.3), cast("nodule", PRESENT, 0.4)]
    assert named(reconcile(votes)) == [("nodule", "present")]


def test_devices_stand_beside_a_normal_film() -> None:
    votes = [cast("no_finding", PRESENT, 0.8), cast("support_devices", PRESENT, 0.6)]
    assert named(reconcile(votes)) == [("no_finding", "present"), ("support_devices", "present")]


def test_no_absence_denies_what_is_stated() -> None:
    votes = [
        cast("lung_opacity", ABSENT, 0.95),
        cast("nodule", ABSENT, 0.95),
        cast("consolidation", PRESENT, 0.6),
    ]
    assert named(reconcile(votes)) == [("consolidation", "present"), ("nodule", "absent")]


def test_the_narrower_of_two_names_stands() -> None:
    votes = [cast("lung_opacity", PRESENT, 0.6), cast("consolidation", PRESENT, 0.5)]
    assert named(reconcile(votes)) == [("consolidation", "present")]
    votes = [cast("lung_opacity", PRESENT, 0.9), cast("consolidation", PRESENT, 0.4)]
    assert ("lung_opacity", "present") in named(reconcile(votes))


def said(text: str) -> Sentence:
    claims = claims_of(text)
    assert claims is not None
    return Sentence(next(iter(claims)), Placed(text), claims, (), 1)


def test_repeats_and_contradictions_are_left_out() -> None:
    told = [
        said("Pleural effusion and cardiomegaly."),
        said("There is a pleural effusion."),
        said("No pleural effusion or pneumothorax."),
        said("No pneumothorax."),
    ]
    assert [s.placed.text for s in unrepeated(told)] == [told[0].placed.text, told[3].placed.text]


def test_a_sentence_that_doubts_claims_nothing_that_can_be_stated() -> None:
    assert claims_of("Possible pneumonia.") is None
    assert claims_of("Normal chest.") == {"no_finding": PRESENT}
