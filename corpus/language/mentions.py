"""Mentions: the phrases of each finding, of structures, and of normality.

Templates are those of `corpus.language.phrases`. Decisions on meaning, made after the usage of reporting
radiologists and annotators of such reports:

- A phrase names what the image shows. `infiltrate` is infiltration, `airspace disease` and `opacity` are only
lung_opacity, `consolidation` only where that word stands, `pneumonia` also as `pneumonitis`.
- Scarring and granulomas are not fibrosis and not nodules. A granuloma, calcified or not, is a healed lesion
and has no entry of its own; a `calcified nodule` is a nodule. A `nodular opacity` is a lung_lesion.
- Hyperinflation, COPD, bullae and blebs are not emphysema by themselves.
- A blunted costophrenic angle may be an effusion or a scar: uncertain. Volume loss alone is not atelectasis.
- Heart size at the upper limits of normal is not cardiomegaly; `borderline` is its lowest degree.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from corpus.findings import SUPPORT_DEVICES


class Mention(NamedTuple):
    """A finding is named.

    `findings`: share the status; empty for a term outside the vocabulary, which still takes up its triggers.
    `doubtful`: the sign is uncertain at most.
    """

    findings: tuple[str, ...]
    doubtful: bool = False


class Structure(NamedTuple):
    """Anatomy is named.

    `normal`: findings that are absent where it is called normal.
    `enlarged`: findings that are present where it is called enlarged.
    """

    normal: tuple[str, ...] = ()
    enlarged: tuple[str, ...] = ()


class Disease(NamedTuple):
    """Disease in general is named (`acute bony abnormality`); it has a meaning only when negated."""

    absent: tuple[str, ...] = ()


_HEART = Structure(("cardiomegaly",), ("cardiomegaly",))
_MEDIASTINUM = Structure(("enlarged_cardiomediastinum",), ("enlarged_cardiomediastinum",))
_BOTH = Structure(("cardiomegaly", "enlarged_cardiomediastinum"), ("enlarged_cardiomediastinum",))
_LUNGS = Structure(("lung_opacity",))
_PLEURA = Structure(("pleural_effusion", "pneumothorax"))
_ANGLES = Structure(("pleural_effusion",))
_BONES = Structure(("fracture",))
_OTHER = Structure()

STRUCTURES: Mapping[str, Structure] = {
    "heart": _HEART,
    "mediastinum": _MEDIASTINUM,
    "heart_and_mediastinum": _BOTH,
    "lungs": _LUNGS,
    "pleura": _PLEURA,
    "angles": _ANGLES,
    "bones": _BONES,
    "other": _OTHER,
}
"""Every structure, by its name in the lexicons of other languages."""

_FINDINGS: dict[str, str] = {
    "cardiomegaly": "cardiomegaly;cardiac|heart enlargement;enlargement of the? cardiac|heart silhouette?;"
    "cardiac|heart silhouette|size enlargement;megalocardia;enlarged heart|cardiac silhouette?;"
    "increase in the? heart|cardiac size;increased heart|cardiac size",
    "enlarged_cardiomediastinum": "mediastinal widening|enlargement;widening|enlargement of the? mediastinum;"
    "widening|enlargement of the? mediastinal|cardiomediastinal silhouette|contour;widened mediastinum;"
    "wide mediastinum;enlarged cardiomediastinal silhouette",
    "lung_opacity": "opacity|opacities|opacification|opacifications|density|densities;haziness|haze;"
    "airspace|alveolar disease|process|change|changes;air space disease|process|change|changes;"
    "opacified;interstitial|reticular|increased|coarse interstitial? markings;white out;whiteout;"
    "interstitial prominence|thickening|disease|changes|pattern|process;"
    "parenchymal disease|thickening|thickenings|changes",
    "lung_lesion": "lung|pulmonary|cavitary|cavitating|focal|parenchymal lesion|lesions;neoplasm;malignancy;"
    "carcinoma;tumor|tumors|tumour|tumours;metastasis|metastases;metastatic disease;cavity|cavities;"
    "cavitation",
    "edema": "pulmonary|interstitial|alveolar|lung? edema|oedema;fluid overload;volume overload;"
    "heart failure;chf;congestive heart failure;congestive failure;pulmonary|vascular interstitial edema",
    "consolidation": "consolidation|consolidations|consolidated|consolidative;"
    "air bronchogram|bronchograms",
    "pneumonia": "pneumonia|pneumonias|pneumonitis|bronchopneumonia",
    "atelectasis": "atelectasis|atelectases|atelectatic|atalectasis|atelectasia;"
    "lobar|lung|lobe? collapse;collapse of the? left|right? upper|middle|lower? lobe|lung;"
    "collapsed lung|lobe",
    "pneumothorax": "pneumothorax|pneumothoraces|pneumothoraxes|pnemothorax|hydropneumothorax|ptx;"
    "pleural air collection|collections?;air in the pleural space|spaces",
    "pleural_effusion": "pleural? effusion|effusions;pleural fluid;hydrothorax|hemothorax|haemothorax|"
    "empyema;"
    "fluid in the? pleural space|spaces;fluid collection|collections;loculated fluid;"
    "hydropneumothorax",
    "pleural_other": "pleural plaque|plaques|calcification|calcifications|scarring|scar|disease|mass|"
    "nodularity|"
    "abnormality|based;fibrothorax;calcified pleural? plaque|plaques",
    "pleural_thickening": "pleural|pleuroparenchymal|fissural thickening;thickening of the? pleura|"
    "fissure|fissures;"
    "thickened pleura|fissure;pleural fibrosis|reaction;pleural apical|basal? thickening;apical thickening;"
    "pleural and? parenchymal? scarring / thickening;pleural thickening / scarring",
    "fracture": "fracture|fractures|fractured|fx;compression deformity|deformities;broken rib|ribs;"
    "vertebral wedging;loss of vertebral? height",
    "infiltration": "infiltrate|infiltrates|infiltration|infiltrations|infiltrative",
    "nodule": "nodule|nodules|micronodule|micronodules;coin lesion|lesions",
    "mass": "mass|masses|masslike;mass like",
    "emphysema": "emphysema|emphysematous",
    "fibrosis": "fibrosis|fibrotic;honeycombing;pulmonary fibrosis",
    "hernia": "hiatal|hiatus|diaphragmatic|bochdalek|morgagni|paraesophageal hernia|hernias;hernia|"
    "hernias;herniation",
    "ground_glass": "ground glass opacity|opacities|opacification|attenuation|density|change|changes|haze;"
    "ground glass;groundglass opacity|opacities?;ggo|ggos",
    SUPPORT_DEVICES: "endotracheal|nasogastric|orogastric|ng|og|et|enteric|feeding|dobhoff|chest|"
        "drainage|thoracostomy|"
    "tracheostomy|gastric tube|tubes;ett|ngt;tracheostomy;"
    "tube|tubes;tube|tubes and|or line|lines;line|lines and|or tube|tubes;"
    "central|picc|venous|subclavian|jugular|ij|arterial line|lines;central venous line|lines|access;"
    "picc;cvl|cvc;"
    "catheter|catheters;port;mediport;portacath;port a cath;pacemaker|pacemakers|pacer|icd|aicd|"
    "defibrillator|"
    "pacing|lvad;pacer|pacemaker|defibrillator|icd|pacing lead|leads|wires|device;swan ganz catheter?;"
    "balloon pump;iabp;pigtail;stent|stents;sternotomy|sternal wire|wires;hardware;prosthetic|"
    "mechanical valve|valves;"
    "valve replacement|prosthesis;drain|drains;stimulator;cannula;support device|devices;spinal rods;"
    "medical|monitoring device|devices;arthroplasty;intubated;intubation",
}  # fmt: skip

# Phrases that hold the word of a finding, structure or cue and do not mean it: longer, they hide it.
_IDLE = (
    "lung|lungs base|bases|apex|apices;of uncertain|unknown|indeterminate|questionable|undetermined identity|"
)
_IDLE += "origin|etiology|significance|nature|age?"
_NOT_FINDINGS = (
    "mass effect;nipple shadow|shadows;breast|body mass;bone|bony|osseous|mineral density|densities;"
    "soft tissue density|densities|mass;bone mineral density;metallic|calcific|surgical|contrast "
    "density|densities;"
    "subcutaneous|cutaneous emphysema;soft tissue emphysema|edema|swelling;laryngeal|peripheral|"
    "leg|ankle|tissue|pedal edema;"
    "cystic fibrosis;pericardial effusion|effusions;joint effusion|effusions;pneumonia vaccine;"
    "lung volume|volumes;thyroid|breast|adrenal|hepatic|renal nodule|nodules|mass|masses;"
    "lung|lungs|thoracic cage? cancer screening;fluid level|levels;"
    "vertebral body? collapse;airway|tracheal collapse;"
)

_STRUCTURES: tuple[tuple[str, Structure], ...] = (
    (
        "heart;heart|cardiac size|contour|contours|shadow|border|borders|silhouette;cardiac silhouette "
        "size|contour;"
        "cardiac;size of the? heart;size and contour of the? heart;cardiac silhouettes",
        _HEART,
    ),
    (
        "mediastinum;mediastinal silhouette|silhouettes|contour|contours|size|width|structures|borders;"
        "mediastinal;"
        "superior|upper mediastinum",
        _MEDIASTINUM,
    ),
    (
        "cardiomediastinal|cardiomediastinum silhouette?|silhouettes?|contour?|contours?|structures?|size?;"
        "cardio mediastinal silhouette|contour|contours;cardiac mediastinal silhouette|contour|contours;"
        "cardiomediastinal|cardiac silhouette|silhouettes and contour|contours",
        _BOTH,
    ),
    (
        "lungs;lung field|fields|parenchyma|zones|xxxx;lung;pulmonary parenchyma;hemithorax|hemithoraces",
        _LUNGS,
    ),
    ("pleural space|spaces|surface|surfaces;pleura", _PLEURA),
    (
        "costophrenic angle|angles|sulci|sulcus|recess|recesses|xxxx;cp angle|angles;costophrenic;"
        "lateral|posterior sulci|sulcus",
        _ANGLES,
    ),
    (
        "bones;bone;bony structures|thorax|skeleton|elements;osseous structures|thorax|elements;"
        "skeletal structures;skeleton;ribs;rib cage;thoracic cage;bony thoracic? cage;skeletal",
        _BONES,
    ),
    (
        "pulmonary|central? vascularity|vasculature|vessels|xxxx;vasculature;vascularity;hila;hilum;"
        "hilar;hilar contours|"
        "structures;trachea;aorta;aortic;diaphragm|diaphragms|hemidiaphragm|hemidiaphragms;soft tissue|"
        "tissues;spine;"
        "upper? abdomen;airway|airways;thoracic aorta|spine;pulmonary arteries|artery",
        _OTHER,
    ),
)

_DISEASE_WORDS = "abnormality|abnormalities|disease|process|finding|findings|pathology|lesion|injury"
_DISEASES: tuple[tuple[str, Disease], ...] = (
    (
        "acute|active? cardiopulmonary|pulmonary|intrathoracic|thoracic|chest|airspace|radiographic|"
        "preoperative|"
        f"cardiac|lung|pleural|parenchymal|radiologic? {_DISEASE_WORDS};acute|active or? active? "
        f"{_DISEASE_WORDS};"
        f"acute radiographic cardiopulmonary {_DISEASE_WORDS};abnormality|abnormalities|pathology;"
        f"acute intrathoracic|cardiopulmonary;active cardiopulmonary;active {_DISEASE_WORDS}",
        Disease(),
    ),
    (
        f"acute? bony|osseous|bone|skeletal|rib {_DISEASE_WORDS};acute displaced? rib? fracture|fractures",
        Disease(("fracture",)),
    ),
)

_NORMAL = (
    "normal;unremarkable;clear;intact;sharp;within normal limits;normal limits;within limits of normal;wnl;"
    "not enlarged;not significantly|definitely enlarged;top normal;upper limits of normal;upper limit "
    "of normal;"
    "normal in|for size|contour|appearance|caliber|limits;grossly|otherwise clear;well expanded and? "
    "clear;midline;"
    "high|upper normal;normally|fully|well inflated|aerated|expanded;negative chest|study|exam|"
    "examination|radiograph"
)
_ENLARGED = (
    "enlarged;large;prominent;widened;increased in size;enlargement;widening;magnified;dilated;big;wide;"
    "borderline;borderline enlarged|enlargement|prominent|large|in size?"
)
_CHEST = (
    "chest;x ray|rays|xxxx;chest x ray|xxxx;chest radiograph|xxxx|film;study;exam|examination;"
    "radiograph|radiographs;views;film"
)


class Normal(NamedTuple):
    """The structures beside it are called normal."""


class Enlarged(NamedTuple):
    """The structures beside it are called enlarged."""


Meaning = Mention | Structure | Disease | Normal | Enlarged | None


def phrases() -> Iterator[tuple[str, Meaning]]:
    """Yield every template with its meaning; None hides a finding's word. Later ones override earlier."""
    yield from _STRUCTURES
    yield _CHEST, _OTHER
    yield from _DISEASES
    for finding, templates in _FINDINGS.items():
        yield templates, Mention((finding,))
    yield "hydropneumothorax", Mention(("pneumothorax", "pleural_effusion"))
    yield (
        "nodular opacity|opacities|density|densities|lesion|lesions|shadow;nodular;nodularity",
        Mention(("lung_lesion",)),
    )
    yield "reticulonodular;reticular nodular", Mention(("lung_opacity",))
    yield "nodular infiltrate|infiltrates", Mention(("infiltration",))
    yield _NORMAL, Normal()
    yield _ENLARGED, Enlarged()
    yield "blunting;blunted", Mention(("pleural_effusion",), doubtful=True)
    yield "chronic blunting", Mention(())
    yield _NOT_FINDINGS, Mention(())
    yield _IDLE, None
