"""Modifiers: the words for the laterality, zone and severity of a finding, and the words between them.

Templates are those of `corpus.language.phrases`. Laterality is the patient's. A word of severity has one of
three levels: `small` (also minimal, trace, mild, slight), `moderate`, `large` (also severe, marked,
extensive); a range counts as its upper end.
"""

from enum import Enum
from typing import Literal, NamedTuple

from corpus.language.phrases import PhraseTable

Laterality = Literal["right", "left", "bilateral"]
Zone = Literal["upper", "mid", "lower", "apical", "basilar", "perihilar", "retrocardiac"]
Severity = Literal["small", "moderate", "large"]


class Modifier(NamedTuple):
    """The attributes that a phrase states.

    `side`: laterality.
    `zone`: of the lung.
    `degree`: severity.
    """

    side: Laterality | None = None
    zone: Zone | None = None
    degree: Severity | None = None


class Link(Enum):
    """The function of the words between two findings."""

    PART = "part"  # one phrase ends, another begins: "and", a comma, "with"
    BRIDGE = "bridge"  # the second is what the first may be: "suspicious for", "due to"
    FILL = "fill"  # words between a modifier and its finding: "in the … lung"
    LOCATE = "locate"  # the same, and a location follows: "in", "at", "on"


Meaning = Modifier | Link | None

_LOBE = "lobe|lobes|lobar|lung|lungs|zone|zones|field|fields|hemithorax"
_SEVERITIES: dict[Severity, str] = {
    "small": "small|tiny|trace|minimal|minimally|mild|mildly|slight|slightly|minor|minute|little;"
    "trace amount;minimal|slight to mild",
    "moderate": "moderate|moderately|medium;moderate sized;small|mild|minimal|trace to? moderate;"
    "small|mild / moderate;mildly to? moderately",
    "large": "large|severe|severely|marked|markedly|extensive|massive;moderate to? large|severe|marked;"
    "moderate / large|severe;moderately to? severely|markedly",
}

MODIFIER_PHRASES: PhraseTable[Meaning] = PhraseTable(
    [
        ("right|rt|r sided?", Modifier("right")),
        ("left|lt|l sided?", Modifier("left")),
        ("bilateral|bilaterally;both lungs?|sides?|hemithoraces?;both", Modifier("bilateral")),
        (f"upper {_LOBE};upper lung zone|zones|field|fields;upper", Modifier(None, "upper")),
        (
            f"mid|middle {_LOBE};mid|middle lung zone|zones|field|fields;midlung|midlungs|midzone;mid;middle",
            Modifier(None, "mid"),
        ),
        ("lingula|lingular", Modifier("left", "mid")),
        (f"lower {_LOBE};lower lung zone|zones|field|fields;lower", Modifier(None, "lower")),
        ("rul", Modifier("right", "upper")),
        ("rml", Modifier("right", "mid")),
        ("rll", Modifier("right", "lower")),
        ("lul", Modifier("left", "upper")),
        ("lll", Modifier("left", "lower")),
        ("lung? apex;apical|apically", Modifier(None, "apical")),
        ("lung? apices;biapical|biapically;both lung? apices", Modifier("bilateral", "apical")),
        ("lung? base;basilar|basal", Modifier(None, "basilar")),
        (
            "lung? bases;bibasilar|bibasal|bibasilarly;both lung? bases;bilateral lung? bases",
            Modifier("bilateral", "basilar"),
        ),
        ("perihilar|parahilar|hilar|hilum|suprahilar|infrahilar", Modifier(None, "perihilar")),
        ("bilateral hila;both hila;hila", Modifier("bilateral", "perihilar")),
        ("retrocardiac", Modifier(None, "retrocardiac")),
        *((templates, Modifier(degree=degree)) for degree, templates in _SEVERITIES.items()),
        (
            "suspicious|concerning|worrisome for|of;consistent|compatible with;in keeping with;"
            "due|secondary to;related to;because of;suggesting|suggests|suggestive of?;"
            "representing|represents|represent;reflecting|reflects|reflect;causing|causes|cause;"
            "indicating|indicative of?;likely|probably;from",
            Link.BRIDGE,
        ),
        ("and|or|,|.|/|&|(|)|:|plus|with|versus|vs|without|nor|but;as well as;along with", Link.PART),
        ("in|at|on|within|over|overlying|involving|throughout|near|along|projecting", Link.LOCATE),
        (
            "the|a|an|of|to|is|are|was|were|be|again|seen|noted|present|which|that|there|appears|appear|"
            "remains|now|still|also|its|lobe|lobes|lung|lungs|zone|zones|region|regions|area|areas|aspect|"
            "aspects|portion|portions|side|sides|sided|size|sized|space|spaces|field|fields|hemithorax|angle|angles|"
            "greater|worse|larger|more|less|smaller|than|amount|component|foci|focus|anterior|"
            "posterior|lateral|medial|costophrenic|sulcus|no|none|nil|yes|absent|any|new|stable|unchanged|persistent|"
            "adjacent|associated|underlying|superimposed|possible|resolving|developing|residual|acute|chronic|"
            "subsegmental|linear|streaky|patchy|hazy|dense|faint|vague|coarse|scattered|diffuse|focal|"
            "multifocal|discoid|rounded|nonspecific|loculated|most|mostly|notably|particularly|predominantly|"
            "especially|mainly|primarily|greatest|worst|xxxx",
            Link.FILL,
        ),
        # Of a change, and not of severity.
        (
            "mildly|slightly|minimally|moderately|markedly? increased|decreased|improved|worsened|increasing|"
            "decreasing|improving|worsening|larger|smaller|more|less|worse",
            Link.FILL,
        ),
        # Words that are no location of a finding: the longer phrase hides them.
        (
            "upper|mid|middle|lower thoracic|lumbar|cervical|abdomen|abdominal|quadrant|extremity|"
            "extremities|esophagus|trachea|back|limits|limit|mediastinum|mediastinal|svc|spine|neck|pole|poles;"
            "right|left upper|lower quadrant;right|left heart|ventricle|ventricular|atrium|atrial|"
            "paratracheal;left|right to left|right;cardiac apex;small|large bowel|bore|caliber;"
            "mid? clavicular;upper normal;r / o;l 1|2|3|4|5|spine",
            None,
        ),
    ]
)
"""Every phrase of laterality, zone, severity and between; None hides the words of a longer phrase."""

PARENT_ZONE: dict[Zone, Zone] = {"apical": "upper", "basilar": "lower", "retrocardiac": "lower"}
"""The third of the lung that contains a narrower zone."""
