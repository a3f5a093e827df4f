"""The wordings of findings: names and sentences from which prompts and made texts are composed.

A change of a sentence changes what encoders are trained and tested on. No wording gives laterality, size or
course, which labels do not contain.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from corpus.findings import SUPPORT_DEVICES, Status


class Wording(NamedTuple):
    """The phrases of one finding.

    `names`: with their article, for `FRAMES`.
    `affirmed`, `denied`, `doubted`: sentences of their own.
    `verb`: is or are.
    """

    names: tuple[str, ...]
    affirmed: tuple[str, ...]
    denied: tuple[str, ...]
    doubted: tuple[str, ...]
    verb: str = "is"


FRAMES: Mapping[Status, tuple[str, ...]] = MappingProxyType(
    {
        Status.PRESENT: (
            "There {is} {a_name}.",
            "{A_name} {is} present.",
            "{A_name} {is} seen on this radiograph.",
            "The film shows {a_name}.",
        ),
        Status.ABSENT: (
            "No {name}.",
            "There {is} no {name}.",
            "No {name} {is} seen.",
            "No evidence of {name}.",
            "The film is negative for {name}.",
        ),
        Status.UNCERTAIN: (
            "Possible {name}.",
            "{A_name} cannot be excluded.",
            "There may be {a_name}.",
            "Questionable {name}.",
        ),
    }
)

WORDINGS: Mapping[str, Wording] = MappingProxyType(
    {
        "enlarged_cardiomediastinum": Wording(
            ("mediastinal widening", "mediastinal enlargement"),
            ("The mediastinum is widened.", "The mediastinal contour is enlarged."),
            ("The mediastinum is normal in width.", "Mediastinal contours are within normal limits."),
            ("The mediastinum may be widened.",),
        ),
        "cardiomegaly": Wording(
            ("cardiomegaly", "cardiac enlargement"),
            ("The heart is enlarged.", "The cardiac silhouette is enlarged.", "Heart size is enlarged."),
            ("Heart size is normal.", "The heart is not enlarged.", "The heart is normal in size."),
            ("The heart may be enlarged.",),
        ),
        "lung_opacity": Wording(
            ("a lung opacity", "an airspace opacity", "a pulmonary opacity"),
            ("The lungs show increased opacity.", "Airspace disease is noted."),
            ("The lungs are clear.", "The lung fields are clear.", "No airspace disease."),
            ("Airspace disease is suspected.",),
        ),
        "lung_lesion": Wording(
            ("a focal lung lesion", "a pulmonary lesion"),
            ("A nodular opacity projects over the lung.", "A focal lesion is demonstrated."),
            ("No suspicious lung lesion is identified.", "The lungs are without a lung lesion."),
            ("A lung lesion is suspected.",),
        ),
        "edema": Wording(
            ("pulmonary edema", "interstitial edema"),
            ("Findings are consistent with pulmonary edema.", "The lungs show changes of edema."),
            ("The lungs are without edema.", "No sign of pulmonary edema."),
            ("Findings may represent pulmonary edema.",),
        ),
        "consolidation": Wording(
            ("consolidation", "lung consolidation"),
            ("Airspace consolidation is demonstrated.", "Consolidation with air bronchograms."),
            ("No focal consolidation.", "The lungs are without focal consolidation."),
            ("Findings are suspicious for consolidation.",),
        ),
        "pneumonia": Wording(
            ("pneumonia", "focal pneumonia"),
            ("Findings are consistent with pneumonia.", "Opacity compatible with pneumonia."),
            ("No sign of pneumonia.", "The lungs are without pneumonia."),
            ("Findings are suspicious for pneumonia.", "Pneumonia is suspected."),
        ),
        "atelectasis": Wording(
            ("atelectasis", "atelectatic change"),
            ("Linear atelectasis is noted.", "Findings are consistent with atelectasis."),
            ("No atelectasis is identified.", "No lobar collapse."),
            ("Findings may represent atelectasis.",),
        ),
        "pneumothorax": Wording(
            ("a pneumothorax",),
            ("A visible pleural line indicates a pneumothorax.", "Pneumothorax is demonstrated."),
            ("No visible pneumothorax.", "No pneumothorax is identified."),
            ("Pneumothorax is suspected.",),
        ),
        "pleural_effusion": Wording(
            ("a pleural effusion", "pleural fluid"),
            ("Effusion is demonstrated.", "There is fluid in the pleural space."),
            ("No effusion is identified.", "The costophrenic angles are without effusion."),
            ("Pleural effusion is suspected.", "Blunting of the costophrenic angle."),
        ),
        "pleural_other": Wording(
            ("a pleural abnormality", "pleural disease"),
            ("Pleural scarring is noted.", "Calcified pleural plaques are demonstrated."),
            ("No pleural abnormality is identified.", "No pleural plaque."),
            ("Pleural disease is suspected.",),
        ),
        "fracture": Wording(
            ("a fracture", "a rib fracture"),
            ("A fractured rib is noted.", "Fracture is demonstrated."),
            ("The bones are intact.", "No displaced fracture.", "No acute bony abnormality."),
            ("Fracture is suspected.",),
        ),
        SUPPORT_DEVICES: Wording(
            ("support devices", "monitoring devices"),
            ("Support devices are in place.", "A catheter is in place.", "Medical devices are noted."),
            ("No catheter or pacemaker is seen.", "No tubes or lines: no support devices."),
            ("A catheter is suspected.",),
            "are",
        ),
        "infiltration": Wording(
            ("an infiltrate", "a pulmonary infiltrate"),
            ("Infiltration of the lung is noted.", "The lungs show infiltrates."),
            ("The lungs are without infiltrate.", "No focal infiltrate."),
            ("Infiltrate is suspected.",),
        ),
        "nodule": Wording(
            ("a pulmonary nodule", "a lung nodule"),
            ("A nodule projects over the lung.", "Nodule is demonstrated."),
            ("No suspicious nodule.", "No nodules are identified."),
            ("A nodule is suspected.",),
        ),
        "mass": Wording(
            ("a lung mass", "a pulmonary mass"),
            ("A mass projects over the lung.", "Mass is demonstrated."),
            ("No suspicious mass.", "No masses are identified."),
            ("A mass is suspected.",),
        ),
        "emphysema": Wording(
            ("emphysema", "pulmonary emphysema"),
            ("Emphysematous changes are noted.", "Findings are consistent with emphysema."),
            ("No emphysematous change.", "No sign of emphysema."),
            ("Emphysema is suspected.",),
        ),
        "fibrosis": Wording(
            ("pulmonary fibrosis", "fibrosis"),
            ("Fibrotic changes are noted.", "Findings are consistent with fibrosis."),
            ("No fibrotic change.", "No sign of fibrosis."),
            ("Fibrosis is suspected.",),
        ),
        "pleural_thickening": Wording(
            ("pleural thickening", "thickening of the pleura"),
            ("Thickened pleura is demonstrated.", "Apical thickening is noted."),
            ("No pleural thickening is identified.", "No apical thickening."),
            ("Pleural thickening is suspected.",),
        ),
        "hernia": Wording(
            ("a hiatal hernia", "a diaphragmatic hernia"),
            ("A hernia is noted.", "Hernia is demonstrated."),
            ("No hernia is identified.", "No sign of a hernia."),
            ("A hernia is suspected.",),
        ),
        "ground_glass": Wording(
            ("ground glass opacity", "ground glass attenuation"),
            ("The lungs show ground glass opacities.", "Ground glass haze is noted."),
            ("The lungs are without ground glass opacity.", "No ground glass haze."),
            ("Ground glass opacity is suspected.",),
        ),
    }
)

NORMAL = (
    "Normal chest radiograph.",
    "The chest is normal.",
    "Unremarkable chest radiograph.",
    "No acute cardiopulmonary abnormality.",
    "No active disease.",
    "The heart and lungs are normal.",
    "The lungs are clear and heart size is normal.",
    "The lungs are clear, with no acute disease.",
)
