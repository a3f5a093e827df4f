"""The view of an image: the many spellings of ViewPosition, the codes of ViewCodeSequence."""

import pytest
from pydicom.sr.codedict import codes

from corpus.demographics import parse_view
from corpus.dicom.header import ViewCode, view_of


@pytest.mark.parametrize(
    ("view", "spellings"),
    [
        ("pa", "PA|P.A.|p-a|P A|PA CHEST|CHEST PA|Chest, PA|PA ERECT|PA_UPRIGHT|POSTERO-ANTERIOR|Frontal PA"),
        ("pa", "posteroanterior|PA STANDING|CXR PA"),
        (
            "ap",
            "AP|A-P|A.P.|A/P|AP SITTING|AP ERECT|AP PORTABLE|PORTABLE AP|AP MOBILE|AP SEMI ERECT",
        ),
        ("ap", "AP SEMI-UPRIGHT|antero posterior|Antero-Posterior|CHEST AP VIEW|AP (bedside)|ap, seated"),
        ("ap_supine", "AP SUPINE|AP_SUPINE|A.P. SUPINE|SUPINE|SUPINE AP PORTABLE|AP RECUMBENT"),
        (
            "lateral",
            "LL|L|LAT|LATERAL|LATERAL LEFT|LEFT LATERAL|LAT L|LLAT|RLAT|RL|LT LAT|R LATERAL|latero-lateral",
        ),
        ("lateral", "CHEST LATERAL|LATERAL ERECT|Lat."),
        (
            "other",
            "PA LAT|AP/LATERAL|Frontal and lateral|Frontal/Lateral|LATERAL DECUBITUS|AP RLD|PA SUPINE|PA/AP",
        ),
        ("other", "LORDOTIC|AP LORDOTIC|LAO|OBLIQUE|R|Coronal|AXIAL|APICAL|PARTIAL|PANORAMIC"),
        (None, "FRONTAL|PORTABLE|ERECT|CHEST|UNKNOWN|N/A|Frontal erect"),
    ],
)
def test_a_spelling_has_one_view(view: str | None, spellings: str) -> None:
    assert {spelling: parse_view(spelling) for spelling in spellings.split("|")} == dict.fromkeys(
        spellings.split("|"), view
    )


CODED = codes.cid4010
PA, AP = CODED.PosteroAnterior, CODED.AnteroPosterior


def coded(value: str, meaning: str = "", scheme: str = "SCT") -> tuple[ViewCode, ...]:
    return (ViewCode(value, scheme, meaning),)


@pytest.mark.parametrize(
    ("code", "view"),
    [
        (PA, "pa"),
        (AP, "ap"),
        (CODED.LateralProjection, "lateral"),
        (CODED.LeftLateral, "lateral"),
        (CODED.RightLateral, "lateral"),
        (CODED.Frontal, None),
        (CODED.LateralOblique, "other"),
    ],
)
def test_the_standards_codes_give_the_view_where_no_position_is_written(code, view: str | None) -> None:
    assert view_of("", coded(code.value, code.meaning)).view == view


@pytest.mark.parametrize(
    ("value", "scheme", "view"),
    [
        ("R-10206", "SRT", "ap"),
        ("R-10214", "SNM3", "pa"),
        ("R-10232", "SRT", "lateral"),
        ("R-10236", "99SDM", "lateral"),
    ],
)
def test_the_older_codes_mean_the_same(value: str, scheme: str, view: str) -> None:
    assert view_of("", coded(value, "", scheme)).view == view
    assert view_of("", coded(value, "", "99LOCAL")).view is None, "a site's own table may use any value"


def test_a_sites_own_code_is_read_by_its_meaning() -> None:
    assert view_of("", coded("17", "AP erect", "99LOCAL")).view == "ap"


def test_the_position_wins_over_the_code_and_a_contradiction_is_noted() -> None:
    result = view_of("PA", coded(AP.value, AP.meaning))
    assert (result.view, result.conflict) == ("pa", "its ViewPosition says pa and its ViewCodeSequence ap")
    assert view_of("AP SUPINE", coded(AP.value, AP.meaning)).conflict is None
    assert view_of("THX", coded(AP.value, AP.meaning)).view == "ap", "words that mean nothing say nothing"


def test_a_code_that_contradicts_its_own_meaning_is_not_believed() -> None:
    result = view_of("", coded("R-10206", "postero-anterior", "SRT"))
    assert result.view is None
    assert result.conflict is not None
