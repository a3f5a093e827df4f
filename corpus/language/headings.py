"""The headings of reports: the section that each begins, the version that it opens, and their pattern.

Every pattern is anchored to a word or a line and has no nested repetition: a text is searched in linear time.
"""

import re
from collections.abc import Iterable, Mapping

from corpus.language.report_versions import Opening

_CLINICAL = "clinical|relevant|pertinent|patient|brief|brief clinical|relevant clinical|pertinent clinical"
_ORDERED = (
    "clinical|admitting|admission|ordering|referring|referral|working|provisional|presumptive|preoperative|pre-op|"
    "postoperative|post-op|discharge|primary|principal"
)


def _cross(first: str, second: str, between: str = " ") -> tuple[str, ...]:
    """Return every pair of words of two lists."""
    return tuple(f"{one}{between}{other}" for one in first.split("|") for other in second.split("|"))


_HEADINGS: dict[str, tuple[str, ...]] = {
    "findings": (
        "findings", "finding", "chest findings", "radiographic findings", "observations", "report", "result",
        "results", "description", "final findings", "preliminary findings",
    ),
    "impression": (
        "impression", "impressions", "conclusion", "conclusions", "opinion", "summary", "interpretation",
        "findings and impression", "findings/impression", "findings / impression", "impression/plan",
        "final impression", "preliminary impression", "final conclusion",
        *_cross("final|radiological|radiologic|radiology|radiographic|imaging|x-ray", "diagnosis|diagnoses"),
    ),
    "indication": (
        "indication", "indications", "clinical indication", "clinical indications", "reason", "request",
        "referral", "question", "exam reason", "examination reason", "symptoms", "complaint", "complaints",
        "chief complaint", "presenting complaint", "presenting symptoms", "signs and symptoms",
        "data", "context", "notes", "clinical", "query", "problem", "suspected diagnosis",
        "clinical impression", "signs/symptoms", "referral reason", "reason for exam/indication",
        "indications/clinical history", "indication/history", "indication/clinical history",
        *_cross("reason for|indication for|reason for this",
                "exam|examination|study|referral|request|visit|order|test|imaging"),
        *_cross(_CLINICAL,
                "information|info|question|query|details|data|context|notes|note|problem|background|concern|"
                "statement|indications|symptoms|reason"),
        *_cross("request|referral|requested|order", "details|information|question|notes|reason|text"),
    ),
    "history": (
        "history", "past medical history", "medical history", "clinical history/indication", "hx",
        "background", "history of present illness", "clinical history and indication",
        "history and indication", "history/indication", *_cross(_CLINICAL, "history|hx"),
        *_cross(_ORDERED, "diagnosis|diagnoses|dx"),
    ),
    "diagnosis": ("diagnosis", "diagnoses", "dx"),  # resolved by `corpus.language.report_versions`
    "comparison": ("comparison", "comparisons", "comparison study", "comparison studies", "prior studies"),
    "technique": ("technique", "techniques", "procedure", "protocol", "views", "procedure comments"),
    "examination": ("examination", "examinations", "exam", "study", "exam type", "type of examination"),
    "recommendation": ("recommendation", "recommendations", "notification", "notifications"),
}  # fmt: skip
_OPENINGS: dict[Opening, tuple[str, ...]] = {
    "preliminary": (
        "wet read", "wet reading", "wet-read", "wetread", "preliminary", "prelim", "provisional report",
        *_cross("preliminary|prelim", "report|radiology report|read|reading|interpretation|result|results"),
        *_cross("resident|overnight|initial|on-call|nighthawk|emergency|ed|er",
                "read|reading|interpretation"),
    ),
    "final": (
        "final", "final report", "final radiology report", "original report", "end of addendum",
        "end addendum",
        *_cross("final|attending", "read|reading|interpretation"),
    ),
    "addendum": (
        "addendum", "addenda", "late addendum", "amendment", "correction", "corrected", "erratum", "errata",
        *_cross("addended|amended|corrected|revised", "report|findings|impression"),
    ),
}  # fmt: skip
OPENING_OF: dict[str, Opening] = {
    **{heading: opening for opening, headings in _OPENINGS.items() for heading in headings},
    "preliminary findings": "preliminary",
    "preliminary impression": "preliminary",
    "final findings": "final",
    "final impression": "final",
    "final conclusion": "final",
}
SECTION_OF = {
    **{heading: name for name, headings in _HEADINGS.items() for heading in headings},
    **{heading: "body" for headings in _OPENINGS.values() for heading in headings},
}


def _either(headings: Iterable[str]) -> str:
    """Return a pattern of any of them, the longest first."""
    return "|".join(re.escape(heading) for heading in sorted(headings, key=len, reverse=True))


_NO_CAPITALS = frozenset(
    ["result", "results", "description", "data", "context", "notes", "clinical", "query", "problem"]
)
"""In capitals these are headings only where they open a line or follow a full stop: "LAB RESULT:" is none."""
_BRIEF = frozenset(["final", "corrected"])
"""The same, and without a suffix: "Corrected age: …" opens nothing."""
_EVERY_OPENING = frozenset(heading for headings in _OPENINGS.values() for heading in headings)
_ANY_OPENING = _either(_EVERY_OPENING)
_WITH_SUFFIX = _either(_EVERY_OPENING - _BRIEF)
_TITLES = frozenset(["examination", "technique"])


def heading_pattern(headings: Iterable[str]) -> re.Pattern[str]:
    """Return the pattern of any of these headings.

    A heading opens a line or follows a full stop, in any case, and ends in a colon; in capitals it may stand
    anywhere ("… clear IMPRESSION: normal"); without a colon it must have the line to itself. Where it opens a
    line, a dash between blanks stands for the colon, and so does a full stop behind an addendum's. A heading
    that opens a version may have a number, a name or a time before its colon, and signs around it on a line
    of its own.
    """
    known = _either(headings)
    capitals = _either(frozenset(headings) - _NO_CAPITALS - _BRIEF).upper()
    return re.compile(
        rf"(?:^[ ]?|(?<=[.;?!\])] ))(?P<any>(?i:{known})) ?:"
        rf"|(?:^[ ]?|(?<=[.;?!\])] ))(?P<opening>(?i:{_WITH_SUFFIX}))"
        r"(?P<suffix>[ (#](?:[^\n:.]|[:.](?=\d)|(?<=[DM]r)\.){1,40}):"
        rf"|(?<![A-Za-z/])(?=[A-ZÀ-Þ][A-ZÀ-Þ-])(?P<capitals>{capitals}) ?:"
        rf"|^(?:[ ]?(?P<alone>(?i:{known}))(?:[ ]?$|(?P<dash> [-–—]{{1,2}} )|(?P<stop>\.(?=\s)))"
        rf"|[*_=# -]{{0,20}}(?P<signed>(?i:{_ANY_OPENING}))(?P<number>[*_=# \d-]{{0,20}})$)",
        re.MULTILINE,
    )


def is_heading(match: re.Match[str], section_of: Mapping[str, str]) -> bool:
    """Return whether a match of the pattern is a heading: not "Exam - chest" nor "Findings. The …"."""
    heading = (match["alone"] or "").lower()
    if match["dash"]:
        return section_of[heading] not in _TITLES
    return not match["stop"] or OPENING_OF.get(heading) == "addendum"
