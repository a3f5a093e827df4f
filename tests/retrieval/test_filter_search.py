"""`--where` from its text to the hits, over both vector stores: what comes back is what a plain reading of
each study says, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from corpus.records import Study
from indexer.index import Index
from retrieval.query.query import Query
from retrieval.search import search_vector

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")

_TEXTS = {
    "sex": ("F", "M", "O"),
    "view": ("pa", "ap", "lateral"),
    "modality": ("CR", "DX"),
    "source": ("phantom", "manifest"),
    "scanner": ("A", "B", "C"),
}
_NUMBERS = {"age": ("0", "35", "50.5", "61", "200"), "dose": ("-1", "0", "0.5", "1.5", "2")}
_DATES = ("2019", "2021", "2021-03", "2022-03-01", "2023-04", "2030-01-01")
_FINDINGS = ("edema", "pleural_effusion", "cardiomegaly", "pneumothorax", "lung_opacity")
_STATUSES = ("", ":present", ":absent", ":uncertain")
_ORDERS = ("=", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True)
class Filter:
    """An expression, and whether a study with an image meets it."""

    text: str
    holds: Callable[[Study], bool]


def _value(study: Study, field: str) -> object:
    if field in ("view", "modality"):
        return getattr(study.images[0], field)
    return study.attributes.get(field) if field in ("scanner", "dose", "portable") else getattr(study, field)


def _compare(operator: str, value_of_study: object, wanted: object) -> bool:
    """Compare two values of one type; one that is not there meets nothing."""
    if value_of_study is None:
        return False
    return {
        "=": value_of_study == wanted,
        "!=": value_of_study != wanted,
        "<": value_of_study < wanted,  # type: ignore[operator]
        "<=": value_of_study <= wanted,  # type: ignore[operator]
        ">": value_of_study > wanted,  # type: ignore[operator]
        ">=": value_of_study >= wanted,  # type: ignore[operator]
    }[operator]


@st.composite
def _comparisons(draw: st.DrawFn) -> Filter:
    kind = draw(st.sampled_from(["text", "number", "date", "bool", "finding", "list"]))
    if kind in ("text", "list"):
        field = draw(st.sampled_from(sorted(_TEXTS)))
        if kind == "list":
            several = draw(st.lists(st.sampled_from(_TEXTS[field]), min_size=1, max_size=3))
            return Filter(f"{field} in ({', '.join(several)})", lambda s: _value(s, field) in several)
        value, operator = draw(st.sampled_from(_TEXTS[field])), draw(st.sampled_from(["=", "!="]))
        return Filter(f'{field}{operator}"{value}"', lambda s: _compare(operator, _value(s, field), value))
    operator = draw(st.sampled_from(_ORDERS))
    if kind == "number":
        field = draw(st.sampled_from(sorted(_NUMBERS)))
        value = draw(st.sampled_from(_NUMBERS[field]))
        return Filter(
            f"{field} {operator} {value}", lambda s: _compare(operator, _value(s, field), float(value))
        )
    if kind == "date":  # a year or month stands for all its days
        value = draw(st.sampled_from(_DATES))
        return Filter(
            f"date{operator}{value}",
            lambda s: _compare(operator, s.date and s.date[: len(value)], value),
        )
    operator = draw(st.sampled_from(["=", "!="]))
    if kind == "bool":
        flag = draw(st.booleans())
        return Filter(
            f"portable {operator} {str(flag).lower()}",
            lambda s: _compare(operator, s.attributes.get("portable"), flag),
        )
    finding, status = draw(st.sampled_from(_FINDINGS)), draw(st.sampled_from(_STATUSES))

    def holds(study: Study) -> bool:
        statuses = {
            name: str(value_of_study)
            for name, value_of_study in study.findings.items()
            if value_of_study != "unmentioned"
        }
        shown = statuses.get(finding) == (status[1:] or "present")
        return bool(statuses) and (shown if operator == "=" else not shown)

    return Filter(f"finding{operator}{finding}{status}", holds)


def _joined(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    def both(one: Filter, other: Filter, word: str) -> Filter:
        return Filter(f"({one.text}){word}({other.text})", lambda s: one.holds(s) and other.holds(s))

    return st.one_of(
        st.builds(both, inner, inner, st.sampled_from([" and ", " ", " AND "])),
        st.builds(
            lambda a, b: Filter(f"({a.text}) or ({b.text})", lambda s: a.holds(s) or b.holds(s)), inner, inner
        ),
        st.builds(lambda a: Filter(f"not ({a.text})", lambda s: not a.holds(s)), inner),
        # without parentheses "and" binds closer than "or", and "not" closest
        st.builds(
            lambda a, b, c: Filter(
                f"({a.text}) or not ({b.text}) and ({c.text})",
                lambda s: a.holds(s) or (not b.holds(s) and c.holds(s)),
            ),
            inner,
            inner,
            inner,
        ),
    )


@pytest.fixture(scope="module")
def imaged_studies(index: Index) -> list[Study]:
    """The studies of the index that have an image."""
    studies = index.catalog.studies(index.catalog.study_ids())
    return [study for study in studies.values() if study.images]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(st.recursive(_comparisons(), _joined, max_leaves=6))
@example(Filter("not sex=F", lambda s: s.sex != "F"))
@example(Filter("scanner=A scanner=B", lambda s: False))
def test_hits_are_the_studies_that_a_plain_reading_of_the_filter_leaves(
    index: Index, imaged_studies: list[Study], expression: Filter
) -> None:
    expected = {study.study_id for study in imaged_studies if expression.holds(study)}
    vector = np.full(index.active_version.dim, index.active_version.dim**-0.5, np.float32)
    query = Query(text="chest", target="images", where=expression.text, k=100)
    answer = search_vector(index, query, "image", vector)
    found = {hit.case.study_id for hit in answer.hits}
    found |= {str(item.study_id) for hit in answer.hits for item in hit.evidence if item.kind == "duplicate"}
    assert found == expected
