"""Ages, sexes, views and modalities, normalised from the spellings of published sets."""

import re
from typing import Final

from corpus.records import Sex, View

OLDEST: Final = 120.0
"""Years; a higher age is a typing error (ChestX-ray14 has a 411)."""

PLAIN_RADIOGRAPHY: Final = "XR"
"""The modality of a set that states "X-ray" only. Not a DICOM term: those are CR and DX."""

_AGE = re.compile(r"(\d{1,6}(?:[.,]\d+)?)\s*(y|m|w|d|years?|yrs?|yo|months?|weeks?|days?)?", re.IGNORECASE)
_PER_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
_SEXES: dict[str, Sex] = {
    "f": "F", "female": "F", "w": "F", "woman": "F",
    "m": "M", "male": "M", "man": "M",
    "o": "O", "other": "O",
}  # fmt: skip
# The words of a view. Any other word ("decubitus", "oblique", "lordotic") makes another view.
_PA = frozenset({"pa", "posteroanterior"})
_AP = frozenset({"ap", "anteroposterior"})
_LATERAL = frozenset({"lateral", "lat", "l", "ll", "rl", "llat", "rlat", "laterolateral"})
_SIDES = frozenset({"left", "right", "lt", "rt", "l", "r"})
_LYING = frozenset({"supine", "recumbent"})
_UPRIGHT = frozenset(
    {"erect", "upright", "standing", "sitting", "seated", "semierect", "semiupright", "semi"}
)
_NO_VIEW = frozenset({"chest", "thorax", "cxr", "portable", "mobile", "bedside", "view", "projection"})
_FRONTAL: dict[View, frozenset[str]] = {"pa": _PA, "ap": _AP}
_PLAIN_RADIOGRAPHY_WORDS = frozenset({"xray", "xr", "radiograph", "radiography", "cxr", "plainfilm"})
_UNKNOWN = frozenset({"", "u", "unknown", "na", "nan", "none", "null", "n/a", "?"})


def parse_age(written: str | float | None) -> float | None:
    """Return an age in years, or None where it is missing.

    Args:
        written: `45`, `45.0`, or DICOM's AS (PS3.5 6.2): `045Y`, `006M`, `012W`, `010D`.

    Raises:
        ValueError: it is no age, or above `OLDEST` years; the message quotes it.
    """
    text = _known_text(written)
    if text is None:
        return None
    match = _AGE.fullmatch(text)
    years = float(match[1].replace(",", ".")) / _PER_YEAR[(match[2] or "y")[0].lower()] if match else -1.0
    if not 0 <= years <= OLDEST:
        raise ValueError(f"the age {text[:20]!r} is not possible")
    return round(years, 3)


def parse_sex(written: str | None) -> Sex | None:
    """Return F, M or O, or None where it is missing or unknown.

    Raises:
        ValueError: it is none of them; the message quotes it.
    """
    text = _known_text(written)
    if text is None:
        return None
    if text.lower() not in _SEXES:
        raise ValueError(f"the sex {text[:20]!r} is none of F, M, O")
    return _SEXES[text.lower()]


def parse_view(written: str | None) -> View | None:
    """Return the view; None where it is missing or only called frontal, `other` for any further view.

    Dots, hyphens and the order of the words do not matter: "P.A.", "A-P", "CHEST PA", "AP SITTING", "LATERAL
    LEFT". A combination ("PA LAT") or a term with further words ("lateral decubitus") is `other`.
    """
    text = _known_text(written)
    if text is None:
        return None
    plain = re.sub(r"[\s_\-/,;()]+", " ", text.lower().replace(".", "")).strip()
    plain = re.sub(r"\b(p a|postero anterior)\b", "pa", plain)
    plain = re.sub(r"\b(a p|antero posterior)\b", "ap", plain)
    words = frozenset(plain.replace("latero lateral", "lateral").split()) - _NO_VIEW
    if words & _LATERAL:
        return "lateral" if words <= _LATERAL | _SIDES | _LYING | _UPRIGHT else "other"
    words -= {"frontal"}
    if words & _LYING:
        return "ap_supine" if words <= _LYING | _AP else "other"
    if words <= _UPRIGHT:
        return None
    for view, names in _FRONTAL.items():
        if words <= names | _UPRIGHT:
            return view
    return "other"


def parse_modality(written: str | None) -> str | None:
    """Return DICOM's term in capitals; `PLAIN_RADIOGRAPHY` where only "X-ray" is stated."""
    text = _known_text(written)
    if text is None:
        return None
    return (
        PLAIN_RADIOGRAPHY if re.sub(r"[^a-z]", "", text.lower()) in _PLAIN_RADIOGRAPHY_WORDS else text.upper()
    )


def _known_text(written: object) -> str | None:
    text = "" if written is None else str(written).strip()
    return None if text.lower() in _UNKNOWN else text
