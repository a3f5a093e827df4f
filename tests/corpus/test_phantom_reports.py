"""What the phantom's reports and studies promise."""

import re
from collections import Counter
from datetime import date
from functools import cache

import numpy as np
import pytest

from corpus.errors import UsageError
from corpus.findings import Status
from corpus.language.labeler import label_report
from corpus.phantom import Scene, describe, masks, scene
from corpus.phantom.lesions import CARDIOMEGALY
from corpus.records import Problem, Study
from corpus.sources.phantom import PhantomSource


@cache
def cohort() -> tuple[Scene, ...]:
    return tuple(scene(11, number) for number in range(400))


def read(source: PhantomSource) -> list[Study]:
    problems: list[Problem] = []
    studies = list(source.studies(problems.append))
    assert not problems
    return studies


def test_the_labeler_reads_the_truth_back() -> None:
    right = wrong = missed = 0
    for drawn in cohort():
        result, truth = label_report(describe(drawn)), drawn.statuses
        right += sum(result.get(name) is status for name, status in truth.items())
        wrong += sum(truth.get(name) is not status for name, status in result.items())
        missed += sum(result.get(name) is not status for name, status in truth.items())
    assert 2 * right / (2 * right + wrong + missed) >= 0.97


def test_reports_are_worded_in_many_ways() -> None:
    texts = [describe(drawn).text for drawn in cohort()]
    assert len(set(texts)) > 0.6 * len(texts)
    described = [describe(drawn).described for drawn in cohort()]
    assert len(set(described)) > 0.6 * len(described)


def test_the_side_in_the_report_is_the_side_of_the_mask() -> None:
    for drawn in cohort()[:150]:
        one_sided = [x for x in drawn.lesions if x.side]
        if len({x.side for x in one_sided}) != 1:
            continue
        words = set(re.findall(r"\b(left|right)\b", describe(drawn).described.lower()))
        middle = 256 / 2 + drawn.acquisition.positioning.shift_across * 256 / 380
        for finding, mask in masks(drawn).items():
            if finding != CARDIOMEGALY:
                on_image = "right" if np.nonzero(mask)[1].mean() < middle else "left"
                assert words == {on_image}


def test_the_zone_in_the_report_is_the_zone_of_the_lesion() -> None:
    words = {"upper": "upper", "mid": "mid", "lower": "lower|base"}
    for drawn in cohort():
        zones = {x.zone for x in drawn.lesions if x.zone}
        text = describe(drawn).section("findings")
        for zone, word in words.items():
            expected = re.search(rf"\b(?:right|left) (?:lung )?(?:{word})", text)
            assert (expected is not None) == (zone in zones), text


def test_faint_lesions_are_hedged_and_others_are_not() -> None:
    hedges = re.compile(r"possible|cannot|questionable|may be", re.IGNORECASE)
    for drawn in cohort():
        assert bool(hedges.search(describe(drawn).described)) == any(x.faint for x in drawn.lesions)


def test_a_report_has_indication_findings_and_impression() -> None:
    for drawn in cohort()[:50]:
        report = describe(drawn)
        names = [section.name for section in report.sections]
        assert [n for n in names if n != "comparison"] == ["indication", "findings", "impression"]
        assert ("comparison" in names) == (drawn.previous_date is not None)
        assert report.item_id == f"{drawn.study_id}#report"
        assert all(section.text for section in report.sections)
        assert not re.search(r"[{}]|  |\.\.|None|^[a-z]", report.text)


def test_a_study_does_not_depend_on_the_size_of_the_cohort() -> None:
    assert read(PhantomSource(9, 4)) == read(PhantomSource(30, 4))[:9]
    assert read(PhantomSource(9, 4)) != read(PhantomSource(9, 5))


def test_a_study_has_one_frontal_image_and_one_report() -> None:
    for number, study in enumerate(read(PhantomSource(20, 2))):
        assert study.study_id == f"phantom:2-{number}"
        (image,) = study.images
        assert image.item_id == f"{study.study_id}#frontal"
        assert image.location == f"phantom://2/{number}"
        assert image.view in ("pa", "ap")
        assert image.modality == "DX"
        assert study.report is not None
        assert study.findings == scene(2, number).statuses
        assert study.sex in ("F", "M")
        assert study.age is not None
        assert 18 <= study.age <= 95
        assert date.fromisoformat(study.date or "")


def test_one_subject_in_six_comes_back_later_with_the_same_body() -> None:
    drawn = {s.number: s for s in cohort()[:350]}
    visits = Counter(s.subject_id for s in drawn.values())
    assert len(visits) == 300
    assert sorted(visits.values())[-50:] == [2] * 50
    changed = 0
    for later in (s for s in drawn.values() if s.previous_date):
        first = drawn[later.subject]
        assert later.anatomy == first.anatomy
        assert later.sex == first.sex
        assert later.date > first.date == later.previous_date
        assert 0 <= later.age - first.age <= 1
        changed += later.lesions != first.lesions
    assert changed > 25


def test_uncertain_findings_are_not_called_present() -> None:
    unsure = [s for s in cohort() if s.lesions and all(x.faint for x in s.lesions)]
    assert unsure
    assert not any(Status.PRESENT in s.statuses.values() for s in unsure)


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-3, 0), (5, -1)])
def test_a_cohort_of_no_one_is_wrong_usage(count: int, seed: int) -> None:
    with pytest.raises(UsageError, match="count is 1 or more"):
        PhantomSource(count, seed)
