"""The view of a DICOM image: by ViewPosition (0018,5101), else by ViewCodeSequence (0054,0220)."""

from dataclasses import dataclass

from corpus.demographics import parse_view
from corpus.records import View

# PS3.16 CID 4010, by SNOMED CT code and by the older SNOMED RT and SNOMED 3 code.
_VIEWS: dict[str, View | None] = {
    "272479007": "pa", "R-10214": "pa", "R-40888": "pa",
    "399348003": "ap", "R-10206": "ap",
    "399067008": "lateral", "R-102CD": "lateral",
    "399198007": "lateral", "R-10232": "lateral",
    "399173006": "lateral", "R-10236": "lateral",
    "399033003": None, "R-10202": None,  # frontal: from which side is not said
}  # fmt: skip
_SNOMED = frozenset({"SCT", "SRT", "SNM3", "99SDM", ""})


@dataclass(frozen=True, slots=True)
class ViewCode:
    """An item of ViewCodeSequence: CodeValue, CodingSchemeDesignator and CodeMeaning, empty where absent."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class ImageView:
    """The view of an image. `conflict`: two elements of its header name different views, in a clause."""

    view: View | None
    conflict: str | None = None


def view_of(position: str, codes: tuple[ViewCode, ...]) -> ImageView:
    """Return the view by ViewPosition, or by ViewCodeSequence where that is absent or in unknown words.

    Where both name a view and not the same one, ViewPosition is taken: it is what a technologist sees and
    corrects. A code whose meaning says another view than its value says nothing (both spellings of PA and AP
    have been seen under the other's code).
    """
    written = parse_view(position)
    coded: set[View | None] = set()
    for code in codes:
        known, spelled = _by_value(code), parse_view(code.meaning)
        if known is not None and spelled not in (None, "other", known):
            return ImageView(written, "its ViewCodeSequence has a code and a meaning of different views")
        coded.add(known or spelled)
    coded.discard(None)
    found = coded.pop() if len(coded) == 1 else None
    if written is None or (written == "other" and found is not None):
        return ImageView(found)
    same = found is None or found == written or (found, written) == ("ap", "ap_supine")
    if same or found == "other":
        return ImageView(written)
    return ImageView(written, f"its ViewPosition says {written} and its ViewCodeSequence {found}")


def _by_value(code: ViewCode) -> View | None:
    return _VIEWS.get(code.value) if code.scheme.upper() in _SNOMED else None
