"""Sentences that say a finding is there, is not there, or may be: prompts, and texts for films without one.

Every finding is told in the same frames over its own names, and in sentences of its own beside them. They
give no side, size or course, which labels do not tell. What a sentence says is what `corpus.language.labeler`
reads in
it: the finding with its status, what the tree of findings makes of that, and nothing else.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from corpus.errors import UsageError
from corpus.findings import NO_FINDING, SUPPORT_DEVICES, VOCABULARY, Status, Statuses, is_normal

MOST_DENIALS = 4
"""How many findings a described film denies at most: a report names a few, not all that is not there."""


class _Wording(NamedTuple):
    """How one finding is told: `names`, with their article, go into the frames; the rest are sentences."""

    names: tuple[str, ...]
    affirmed: tuple[str, ...]
    denied: tuple[str, ...]
    doubted: tuple[str, ...]
    verb: str = "is"


_FRAMES: Mapping[Status, tuple[str, ...]] = MappingProxyType(
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

_WORDINGS: Mapping[str, _Wording] = MappingProxyType(
    {
        "enlarged_cardiomediastinum": _Wording(
            ("mediastinal widening", "mediastinal enlargement"),
            ("The mediastinum is widened.", "The mediastinal contour is enlarged."),
            ("The mediastinum is normal in width.", "Mediastinal contours are within normal limits."),
            ("The mediastinum may be widened.",),
        ),
        "cardiomegaly": _Wording(
            ("cardiomegaly", "cardiac enlargement"),
            ("The heart is enlarged.", "The cardiac silhouette is enlarged.", "Heart size is enlarged."),
            ("Heart size is normal.", "The heart is not enlarged.", "The heart is normal in size."),
            ("The heart may be enlarged.",),
        ),
        "lung_opacity": _Wording(
            ("a lung opacity", "an airspace opacity", "a pulmonary opacity"),
            ("The lungs show increased opacity.", "Airspace disease is noted."),
            ("The lungs are clear.", "The lung fields are clear.", "No airspace disease."),
            ("Airspace disease is suspected.",),
        ),
        "lung_lesion": _Wording(
            ("a focal lung lesion", "a pulmonary lesion"),
            ("A nodular opacity projects over the lung.", "A focal lesion is demonstrated."),
            ("No suspicious lung lesion is identified.", "The lungs are without a lung lesion."),
            ("A lung lesion is suspected.",),
        ),
        "edema": _Wording(
            ("pulmonary edema", "interstitial edema"),
            ("Findings are consistent with pulmonary edema.", "The lungs show changes of edema."),
            ("The lungs are without edema.", "No sign of pulmonary edema."),
            ("Findings may represent pulmonary edema.",),
        ),
        "consolidation": _Wording(
            ("consolidation", "lung consolidation"),
            ("Airspace consolidation is demonstrated.", "Consolidation with air bronchograms."),
            ("No focal consolidation.", "The lungs are without focal consolidation."),
            ("Findings are suspicious for consolidation.",),
        ),
        "pneumonia": _Wording(
            ("pneumonia", "focal pneumonia"),
            ("Findings are consistent with pneumonia.", "Opacity compatible with pneumonia."),
            ("No sign of pneumonia.", "The lungs are without pneumonia."),
            ("Findings are suspicious for pneumonia.", "Pneumonia is suspected."),
        ),
        "atelectasis": _Wording(
            ("atelectasis", "atelectatic change"),
            ("Linear atelectasis is noted.", "Findings are consistent with atelectasis."),
            ("No atelectasis is identified.", "No lobar collapse."),
            ("Findings may represent atelectasis.",),
        ),
        "pneumothorax": _Wording(
            ("a pneumothorax",),
            ("A visible pleural line indicates a pneumothorax.", "Pneumothorax is demonstrated."),
            ("No visible pneumothorax.", "No pneumothorax is identified."),
            ("Pneumothorax is suspected.",),
        ),
        "pleural_effusion": _Wording(
            ("a pleural effusion", "pleural fluid"),
            ("Effusion is demonstrated.", "There is fluid in the pleural space."),
            ("No effusion is identified.", "The costophrenic angles are without effusion."),
            ("Pleural effusion is suspected.", "Blunting of the costophrenic angle."),
        ),
        "pleural_other": _Wording(
            ("a pleural abnormality", "pleural disease"),
            ("Pleural scarring is noted.", "Calcified pleural plaques are demonstrated."),
            ("No pleural abnormality is identified.", "No pleural plaque."),
            ("Pleural disease is suspected.",),
        ),
        "fracture": _Wording(
            ("a fracture", "a rib fracture"),
            ("A fractured rib is noted.", "Fracture is demonstrated."),
            ("The bones are intact.", "No displaced fracture.", "No acute bony abnormality."),
            ("Fracture is suspected.",),
        ),
        SUPPORT_DEVICES: _Wording(
            ("support devices", "monitoring devices"),
            ("Support devices are in place.", "A catheter is in place.", "Medical devices are noted."),
            ("No catheter or pacemaker is seen.", "No tubes or lines: no support devices."),
            ("A catheter is suspected.",),
            "are",
        ),
        "infiltration": _Wording(
            ("an infiltrate", "a pulmonary infiltrate"),
            ("Infiltration of the lung is noted.", "The lungs show infiltrates."),
            ("The lungs are without infiltrate.", "No focal infiltrate."),
            ("Infiltrate is suspected.",),
        ),
        "nodule": _Wording(
            ("a pulmonary nodule", "a lung nodule"),
            ("A nodule projects over the lung.", "Nodule is demonstrated."),
            ("No suspicious nodule.", "No nodules are identified."),
            ("A nodule is suspected.",),
        ),
        "mass": _Wording(
            ("a lung mass", "a pulmonary mass"),
            ("A mass projects over the lung.", "Mass is demonstrated."),
            ("No suspicious mass.", "No masses are identified."),
            ("A mass is suspected.",),
        ),
        "emphysema": _Wording(
            ("emphysema", "pulmonary emphysema"),
            ("Emphysematous changes are noted.", "Findings are consistent with emphysema."),
            ("No emphysematous change.", "No sign of emphysema."),
            ("Emphysema is suspected.",),
        ),
        "fibrosis": _Wording(
            ("pulmonary fibrosis", "fibrosis"),
            ("Fibrotic changes are noted.", "Findings are consistent with fibrosis."),
            ("No fibrotic change.", "No sign of fibrosis."),
            ("Fibrosis is suspected.",),
        ),
        "pleural_thickening": _Wording(
            ("pleural thickening", "thickening of the pleura"),
            ("Thickened pleura is demonstrated.", "Apical thickening is noted."),
            ("No pleural thickening is identified.", "No apical thickening."),
            ("Pleural thickening is suspected.",),
        ),
        "hernia": _Wording(
            ("a hiatal hernia", "a diaphragmatic hernia"),
            ("A hernia is noted.", "Hernia is demonstrated."),
            ("No hernia is identified.", "No sign of a hernia."),
            ("A hernia is suspected.",),
        ),
        "ground_glass": _Wording(
            ("ground glass opacity", "ground glass attenuation"),
            ("The lungs show ground glass opacities.", "Ground glass haze is noted."),
            ("The lungs are without ground glass opacity.", "No ground glass haze."),
            ("Ground glass opacity is suspected.",),
        ),
    }
)

_NORMAL = (
    "Normal chest radiograph.",
    "The chest is normal.",
    "Unremarkable chest radiograph.",
    "No acute cardiopulmonary abnormality.",
    "No active disease.",
    "The heart and lungs are normal.",
    "The lungs are clear and heart size is normal.",
    "The lungs are clear, with no acute disease.",
)


@cache
def prompt_sentences(name: str, status: Status) -> tuple[str, ...]:
    """Return the sentences that give a finding a status.

    Args:
        name: a finding of the vocabulary, parents included, or `no_finding`.
        status: present, absent or uncertain.

    Returns:
        At least five distinct sentences; none for an absent or uncertain `no_finding` (what a film shows
        instead is said by the findings) and none for unmentioned.

    Raises:
        UsageError: the vocabulary has no such finding.
    """
    if name == NO_FINDING:
        return _NORMAL if status is Status.PRESENT else ()
    if name not in _WORDINGS:
        raise UsageError(f"there are no sentences for {name!r}; known are {', '.join(VOCABULARY.names)}")
    if status is Status.UNMENTIONED:
        return ()
    wording = _WORDINGS[name]
    own = {
        Status.PRESENT: wording.affirmed,
        Status.ABSENT: wording.denied,
        Status.UNCERTAIN: wording.doubted,
    }[status]
    framed = (
        frame.format(a_name=noun, A_name=_capital(noun), name=_bare(noun), **{"is": wording.verb})
        for noun in wording.names
        for frame in _FRAMES[status]
    )
    return (*framed, *own)


def describe(statuses: Statuses, random: np.random.Generator) -> str:
    """Write one report-like text of what is known of a film; another draw gives other words.

    Every finding that is present or uncertain is told (a parent only where no child tells it), up to
    `MOST_DENIALS` of the absent ones are denied, apart or in one sentence, and a normal film is called
    normal. The order is drawn.

    Args:
        statuses: what is known; spread along the tree first.
        random: where the draws come from.

    Returns:
        Sentences, joined by blanks; empty where nothing is known. `label_text` reads in them the present
        and uncertain leaves of `statuses` and none else, and denies nothing that `statuses` does not
        (of a film called normal it may deny what was not mentioned).
    """
    told = VOCABULARY.spread({name: s for name, s in statuses.items() if name != NO_FINDING})
    sentences = [
        _draw(prompt_sentences(name, status), random)
        for status in (Status.PRESENT, Status.UNCERTAIN)
        for name in _named(told, status)
        if not any(told.get(child) is status for child in VOCABULARY.children(name))
    ]
    if is_normal(statuses) and all(told[name] is Status.ABSENT for name in told if name != SUPPORT_DEVICES):
        sentences.append(_draw(_NORMAL, random))
    absent = [name for name in _named(told, Status.ABSENT) if _denies_nothing_else(name, told)]
    sentences += _deny(absent, random, least=0 if sentences else 1)
    return " ".join(sentences[place] for place in random.permutation(len(sentences)))


def _named(told: Statuses, status: Status) -> list[str]:
    return [name for name in VOCABULARY.names if told.get(name) is status]


def _denies_nothing_else(name: str, told: Statuses) -> bool:
    """Whether a parent can be denied: a child that may be there cannot be denied with it."""
    return all(told.get(child) is Status.ABSENT for child in VOCABULARY.children(name))


def _deny(names: Sequence[str], random: np.random.Generator, least: int) -> list[str]:
    """Deny some of the findings: each in a sentence, or all in one."""
    most = min(MOST_DENIALS, len(names))
    count = int(random.integers(min(least, most), most + 1))
    chosen = [names[place] for place in random.permutation(len(names))[:count]]
    if count > 1 and random.random() < 0.5:
        *others, last = (_bare(_draw(_WORDINGS[name].names, random)) for name in chosen)
        return [f"No {', '.join(others)} or {last}."]
    return [_draw(prompt_sentences(name, Status.ABSENT), random) for name in chosen]


def _draw(choices: Sequence[str], random: np.random.Generator) -> str:
    return choices[int(random.integers(len(choices)))]


def _bare(noun: str) -> str:
    """A name without its article."""
    return noun.removeprefix("a ").removeprefix("an ")


def _capital(noun: str) -> str:
    return noun[0].upper() + noun[1:]
