"""`--where`: what is written is what is meant, and what is not understood is refused by name."""

import contextlib
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.errors import UsageError
from corpus.findings import VOCABULARY
from indexer.vectors.filters import And, Comparison, Condition, FieldType, Not, Or, check
from retrieval.query.filters import parse_where, unparse_where

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ATTRIBUTES = {
    "scanner": FieldType.KEYWORD,
    "dose": FieldType.NUMBER,
    "portable": FieldType.BOOL,
    "attr.age": FieldType.KEYWORD,
}


def is_(field: str, value: object) -> Comparison:
    return Comparison(field, "=", value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("sex=F", is_("sex", "F")),
        ("sex = female", is_("sex", "F")),
        ("age>=60", Comparison("age", ">=", 60.0)),
        ("sex=F age>60", And((is_("sex", "F"), Comparison("age", ">", 60.0)))),
        ("sex=F and age>60", And((is_("sex", "F"), Comparison("age", ">", 60.0)))),
        ("sex=F or sex=M age<9", Or((is_("sex", "F"), And((is_("sex", "M"), Comparison("age", "<", 9.0)))))),
        ("not sex=F age<9", And((Not(is_("sex", "F")), Comparison("age", "<", 9.0)))),
        ("not (sex=F or age<9)", Not(Or((is_("sex", "F"), Comparison("age", "<", 9.0))))),
        ("NOT NOT sex=F", Not(Not(is_("sex", "F")))),
        ("view in (pa, ap)", Comparison("view", "in", ("pa", "ap"))),
        ("view in pa,ap age>1", And((Comparison("view", "in", ("pa", "ap")), Comparison("age", ">", 1.0)))),
        ("view=AP-supine", is_("view", "ap_supine")),
        ("finding=edema", is_("finding", "edema")),
        ("finding=edema:present", is_("finding", "edema")),
        ("finding=edema:absent", is_("finding", "edema:absent")),
        ("finding='Pleural Effusion:Uncertain'", is_("finding", "pleural_effusion:uncertain")),
        ("finding=effusion", is_("finding", "pleural_effusion")),
        ('diagnosis="bacterial or viral"', is_("diagnosis", "bacterial or viral")),
        (r'diagnosis="say \"so\""', is_("diagnosis", 'say "so"')),
        ("date>=2020-03", Comparison("date", ">=", "2020-03")),
        ("date=2020-03-31T10:30:00", is_("date", "2020-03-31T10:30:00")),
        ("dose<=1.5e-3", Comparison("dose", "<=", 0.0015)),
        ("attr.age=unsure", is_("attr.age", "unsure")),
        ("portable=yes", is_("portable", True)),
        ("'scanner'!=O'Neill", Comparison("scanner", "!=", "O'Neill")),
    ],
)
def test_an_expression_means_what_it_says(text: str, meaning: Condition) -> None:
    assert parse_where(text, ATTRIBUTES) == meaning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sxe=F", r"character 1: unknown field 'sxe'; the nearest is 'sex'"),
        ("sex=F ages>60", r"character 7: unknown field 'ages'; the nearest is 'age'"),
        ("scaner=x", "the nearest is 'scanner'"),
        ("subject=x", "unknown field 'subject'"),
        ("age>old", r"character 5: age is a number, not 'old'"),
        ("age>nan", "age is a number"),
        ("sex>F", "sex is text and has no order"),
        ("finding<edema", "finding is text and has no order"),
        ("sex=X", "sex is one of F, M, O, not 'X'"),
        ("view=front", "the nearest is"),
        ("date>yesterday", "is not a date"),
        ("finding=edma", "unknown finding 'edma'; the nearest is 'edema'"),
        ("finding=edema:gone", "a finding is present, absent, uncertain, not 'gone'"),
        ("finding=edema:unmentioned", "a finding is present, absent, uncertain"),
        ("diagnosis=viral pneumonia", "a value of several words is quoted"),
        ("diagnosis='viral", "a quote that is not closed"),
        ("diagnosis=''", "compared with nothing"),
        ("sex", "expected one of ="),
        ("sex=", "expected a value, found the end"),
        ("sex=F and", "expected a field"),
        ("or sex=F", "expected a field"),
        ("(sex=F", r"expected '\)'"),
        ("sex=F)", r"'\)' is left over"),
        ("view in ()", "expected a value"),
        ("view in pa,", "expected a value"),
        ("portable=maybe", "true or false"),
        ("", "empty"),
        ("   ", "empty"),
        ("sex=F; drop table", "not 'F;'"),
        ("not " * 100 + "sex=F", "nested deeper"),
        ("(" * 5000, "nested deeper"),
        ("sex=F " * 10_000, "at most"),
    ],
)
def test_a_filter_that_does_not_parse_is_refused_in_one_line_with_its_position(
    text: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        parse_where(text, ATTRIBUTES)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_value_and_a_field_are_the_same_however_their_accents_were_typed(form: str) -> None:
    written = unicodedata.normalize(form, 'diagnosis="Ödem" and Gerät=Röntgen')
    meaning = And((is_("diagnosis", "Ödem"), is_("Gerät", "Röntgen")))
    assert parse_where(written, {"Gerät": FieldType.KEYWORD}) == meaning


_TEXT = st.text(min_size=1, max_size=12).map(lambda text: unicodedata.normalize("NFC", text))
_FINDING = st.builds(
    lambda name, status: name + status,
    st.sampled_from(VOCABULARY.names),
    st.sampled_from(["", ":absent", ":uncertain"]),
)
_DATE = st.one_of(st.dates(), st.datetimes()).map(lambda moment: moment.isoformat())
_NUMBER = st.floats(allow_nan=False, allow_infinity=False)
_VALUES = {
    "sex": st.sampled_from("FMO"),
    "view": st.sampled_from(["pa", "ap", "ap_supine", "lateral", "other"]),
    "age": _NUMBER,
    "dose": _NUMBER,
    "attr.age": _TEXT,
    "date": _DATE,
    "finding": _FINDING,
    "portable": st.booleans(),
    "diagnosis": _TEXT,
    "source": _TEXT,
    "scanner": _TEXT,
}


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    field = draw(st.sampled_from(sorted(_VALUES)))
    ordered = field in ("age", "dose", "date")
    op = draw(st.sampled_from(["=", "!=", "in", *(["<", "<=", ">", ">="] if ordered else [])]))
    if op == "in":
        return Comparison(field, "in", tuple(draw(st.lists(_VALUES[field], min_size=1, max_size=4))))
    return Comparison(field, op, draw(_VALUES[field]))  # type: ignore[arg-type]


def _conditions() -> st.SearchStrategy[Condition]:
    def grow(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
        parts = st.lists(inner, min_size=2, max_size=4).map(tuple)
        return st.one_of(st.builds(And, parts), st.builds(Or, parts), st.builds(Not, inner))

    return st.recursive(comparisons(), grow, max_leaves=12)


@patient
@given(_conditions())
def test_a_condition_that_is_written_out_is_read_back_the_same(condition: Condition) -> None:
    assert parse_where(unparse_where(condition), ATTRIBUTES) == condition


@patient
@given(_conditions())
def test_what_is_read_passes_the_stores_own_check(condition: Condition) -> None:
    check(parse_where(unparse_where(condition), ATTRIBUTES), ATTRIBUTES)


@patient
@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(
                [
                    "sex",
                    "age",
                    "finding",
                    "date",
                    "=",
                    "<",
                    "in",
                    "(",
                    ")",
                    ",",
                    "and",
                    "or",
                    "not",
                    "F",
                    "1",
                    '"',
                ]
            )
        ).map(" ".join),
    )
)
def test_any_text_is_either_understood_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        parse_where(text, ATTRIBUTES)
