"""What a report claims must not depend on which finding it names, nor on how it orders its words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.findings import NO_FINDING, VOCABULARY, Status
from corpus.language.labeler import label_text

NAMES = {
    "enlarged_cardiomediastinum": "mediastinal widening",
    "cardiomegaly": "cardiomegaly",
    "lung_opacity": "opacity",
    "lung_lesion": "lung lesion",
    "edema": "pulmonary edema",
    "consolidation": "consolidation",
    "pneumonia": "pneumonia",
    "atelectasis": "atelectasis",
    "pneumothorax": "pneumothorax",
    "pleural_effusion": "effusion",
    "pleural_other": "pleural plaque",
    "fracture": "rib fracture",
    "support_devices": "chest tube",
    "infiltration": "infiltrate",
    "nodule": "nodule",
    "mass": "mass",
    "emphysema": "emphysema",
    "fibrosis": "fibrosis",
    "pleural_thickening": "pleural thickening",
    "hernia": "hiatal hernia",
    "ground_glass": "ground-glass opacity",
}
PAIRS = [
    ("pneumothorax", "pleural_effusion"),
    ("pleural_effusion", "pneumothorax"),
    ("consolidation", "pleural_effusion"),
    ("atelectasis", "fracture"),
    ("nodule", "hernia"),
    ("edema", "cardiomegaly"),
    ("fibrosis", "mass"),
    ("infiltration", "support_devices"),
    ("emphysema", "pleural_thickening"),
    ("ground_glass", "enlarged_cardiomediastinum"),
    ("pneumonia", "pleural_other"),
]

PRESENT = """
{x}
There is {x}.
Small {x} is present.
{x} again noted.
No change in {x}.
No change in the {x}.
No interval change in the size of the {x}.
No significant interval change in {x}.
There is no change in the left {x}.
No interval increase in {x}.
The {x} is unchanged.
The {x} has not changed.
{x} without significant change.
Unchanged {x}.
Stable {x}.
{x}, unchanged.
The {x} has not resolved.
Incomplete resolution of the {x}.
{x} not seen on the prior study.
The {x} has increased.
Findings consistent with {x}.
Lungs otherwise clear except for {x}.
The film is normal but there is {x}.
The {x} is nearly resolved.
No change is seen in the {x}.
{x}: no change.
Resolving {x}.
"""
ABSENT = """
No {x}.
no {x} is seen
No new {x}.
There is no new {x}.
No new or enlarging {x}.
No evidence of {x}.
There is no convincing evidence of {x}.
Without {x}.
Without evidence of {x}.
Negative for {x}.
Absence of {x}.
Free of {x}.
The lungs are clear of {x}.
{x} is not seen.
{x} not identified.
{x} no longer seen.
{x} is no longer visible.
The {x} is no longer present.
There is no longer {x}.
There is no longer an {x}.
No longer seen is the {x}.
Resolved {x}.
Interval resolution of {x}.
Resolution of the {x}.
The {x} has resolved.
{x} resolved.
{x} has completely resolved.
Previously seen {x} has resolved.
The previously noted left {x} has resolved.
The {x} seen previously has resolved.
The {x} seen on the prior study is no longer visible.
There was {x}, but it has resolved.
The {x} has cleared.
The {x} is absent.
{x} is ruled out.
{x} can be excluded.
No findings to suggest {x}.
No findings suspicious for {x}.
No {x} is suspected.
Neither {x}.
No longer is there {x}.
{x}, previously seen, has resolved.
Nothing to suggest {x}.
Not seen: {x}.
No {x} has developed.
{x} no longer.
"""
UNCERTAIN = """
Cannot exclude early {x}.
Cannot exclude {x}.
We cannot exclude an early {x}.
Can not rule out {x}.
Early {x} cannot be excluded.
{x} cannot be excluded.
{x} cannot be entirely excluded.
{x} is not excluded.
{x} cannot entirely be excluded.
{x} could not be ruled out.
{x} has not been excluded.
An early {x} can't be ruled out.
Unable to exclude {x}.
Difficult to exclude {x}.
{x}, if any, is small.
If any, {x} is small.
{x} is small, if any.
Small {x}, if any.
{x}, if present, is small.
Possible {x}.
{x} is possible.
Possibly {x}.
May represent {x}.
This could be {x}.
Questionable {x}.
Suspected {x}.
{x} is suspected.
Question of {x}.
Concerning for {x}.
Suspicious for {x}.
{x} versus artifact.
Exclusion of {x} is not possible.
Cannot r/o {x}.
The possibility of early {x} cannot be excluded.
There is little if any {x}.
{x} not excluded.
Does not exclude {x}.
Artifact versus {x}.
This may be due to {x}.
"""
UNMENTIONED = """
History of {x}.
Patient with a history of {x}.
Known history of {x}.
{x} by history.
History of prior {x}.
No history of {x}.
Rule out {x}.
Evaluate for {x}.
Please evaluate for {x}.
R/O {x}.
Assess for {x}.
If there is clinical concern for {x}, repeat the film.
CT is recommended to evaluate for {x}.
"""
BOTH_ABSENT = """
No {x} or {y}.
No {x} and no {y}.
No {x}, {y}.
Neither {x} nor {y}.
There is no {x} or {y}.
No evidence of {x} or {y}.
No {x} or {y} is seen.
No {x}, opacity, or {y} is identified.
Without {x} or {y}.
{x} and {y} have resolved.
{x} and {y} are not seen.
{x} or {y} is not seen.
"""
ABSENT_THEN_PRESENT = """
Without {x}, {y} present.
Without focal {x}, {y} present.
Without {x}, {y} is present.
No {x} but {y}.
No {x}, but {y} is seen.
No {x}; {y}.
No {x}; there is {y}.
No {x}. {y}.
No {x}, small {y}.
No {x} is seen, {y} is unchanged.
There is no {x}, however there is {y}.
There is no {x} and the {y} is stable.
{x} has resolved, {y} is unchanged.
{x} no longer seen but {y} persists.
{x} is not seen, {y} is.
No {x} with stable {y}.
"""
PRESENT_THEN_ABSENT = """
{x} present, without {y}.
{x} present without {y}.
{x}, no {y}.
{x} without {y}.
{x} but no {y}.
Stable {x}, no new {y}.
There is {x} and there is no {y}.
{x} is unchanged, {y} has resolved.
The {x} is unchanged; the {y} has resolved.
{x} is present, {y} is not seen.
{x} with no {y}.
{x} is present and the {y} has resolved.
"""


def _lines(block: str) -> list[str]:
    return [line for line in block.splitlines() if line]


def _spoken(template: str, **names: str) -> str:
    text = template.format(**{k: NAMES[v] for k, v in names.items()})
    return text[:1].upper() + text[1:]


SINGLE = [
    (template, status)
    for block, status in (
        (PRESENT, Status.PRESENT),
        (ABSENT, Status.ABSENT),
        (UNCERTAIN, Status.UNCERTAIN),
        (UNMENTIONED, None),
    )
    for template in _lines(block)
]
DOUBLE = [
    (template, *expected)
    for block, expected in (
        (BOTH_ABSENT, (Status.ABSENT, Status.ABSENT)),
        (ABSENT_THEN_PRESENT, (Status.ABSENT, Status.PRESENT)),
        (PRESENT_THEN_ABSENT, (Status.PRESENT, Status.ABSENT)),
    )
    for template in _lines(block)
]


def test_every_finding_of_the_vocabulary_has_a_name_here() -> None:
    assert set(NAMES) == set(VOCABULARY.names) - {NO_FINDING}


@pytest.mark.parametrize(("template", "expected"), SINGLE)
def test_a_pattern_means_the_same_of_every_finding(template: str, expected: Status | None) -> None:
    wrong = {}
    for finding in NAMES:
        text = _spoken(template, x=finding)
        got = label_text(text).get(finding)
        if got is not expected:
            wrong[text] = got
    assert not wrong


@pytest.mark.parametrize(("template", "first", "second"), DOUBLE)
def test_a_trigger_has_only_its_own_findings_in_its_scope(
    template: str, first: Status, second: Status
) -> None:
    wrong = {}
    for x, y in PAIRS:
        text = _spoken(template, x=x, y=y)
        statuses = label_text(text)
        if (statuses.get(x), statuses.get(y)) != (first, second):
            wrong[text] = (statuses.get(x), statuses.get(y))
    assert not wrong


LISTABLE = [f for f in NAMES if f not in ("lung_opacity", "lung_lesion", "pleural_other")]


@given(
    findings=st.lists(st.sampled_from(LISTABLE), min_size=1, max_size=6, unique=True),
    opening=st.sampled_from(
        ["No", "There is no", "No evidence of", "Negative for", "Without", "No new", "Free of"]
    ),
    conjunction=st.sampled_from([" or ", ", or "]),
    closing=st.sampled_from([".", " is seen.", " identified.", "", " is present."]),
)
@settings(max_examples=150, deadline=None)
def test_a_denied_list_of_any_length_is_denied_whole(
    findings: list[str], opening: str, conjunction: str, closing: str
) -> None:
    names = [NAMES[f] for f in findings]
    listed = conjunction.join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    statuses = label_text(f"{opening} {listed}{closing}")
    assert {f: statuses.get(f) for f in findings} == dict.fromkeys(findings, Status.ABSENT)


@given(
    findings=st.lists(st.sampled_from(LISTABLE), min_size=2, max_size=5, unique=True),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=150, deadline=None)
def test_the_order_of_sentences_does_not_matter_within_a_section(findings: list[str], order: object) -> None:
    templates = [
        "There is {x}.",
        "No {x}.",
        "{x} cannot be excluded.",
        "The {x} has resolved.",
        "No change in {x}.",
    ]
    sentences = [_spoken(templates[i % len(templates)], x=f) for i, f in enumerate(findings)]
    shuffled = list(sentences)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert label_text(" ".join(sentences)) == label_text(" ".join(shuffled))
