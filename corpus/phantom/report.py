"""The report of a scene, in varied wordings.

Every statement has several wordings; the scene's own seed chooses among them. The words stay within the
common names of the findings, so that a rule-based labeler reads back exactly `Scene.statuses`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from corpus.phantom.lesions import (
    CARDIOMEGALY,
    CONSOLIDATION,
    EFFUSION,
    NODULE,
    PNEUMOTHORAX,
    Lesion,
)
from corpus.phantom.scene import CLEAR_LUNGS, Scene
from corpus.records import ItemId, Report, Section

_INDICATIONS = (
    "Cough and fever.", "Shortness of breath.", "Chest pain.", "Dyspnea on exertion.", "Fall.",
    "Preoperative evaluation.", "Weight loss.", "Fatigue and cough.", "Routine check.", "Follow-up.",
    "Fever of unknown origin.", "Right-sided chest pain.", "Left-sided chest pain.", "Hypoxia.",
    "Positive skin test.",
)  # fmt: skip

_AFFIRMED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        EFFUSION: (
            "There is a {size} {side} pleural effusion.",
            "{Size} {side} pleural effusion is present.",
            "{Size} {side} effusion blunts the costophrenic angle.",
            "{Size} pleural effusion on the {side}.",
            "The {side} costophrenic angle is blunted by a {size} pleural effusion.",
            "{Size} {side}-sided pleural effusion is seen.",
        ),
        CONSOLIDATION: (
            "There is {size} consolidation in the {place}.",
            "{Size} consolidation is seen in the {place}.",
            "{Size} airspace consolidation with air bronchograms in the {place}.",
            "Focus of {size} consolidation within the {place}.",
            "The {place} shows {size} consolidation.",
            "{Size} {place} consolidation is present.",
        ),
        NODULE: (
            "There is a {size} nodule in the {place}.",
            "A {size} pulmonary nodule projects over the {place}.",
            "{Size} nodule is seen in the {place}.",
            "Round {size} nodule within the {place}.",
            "The {place} contains a {size} nodule.",
            "Well-defined {size} lung nodule in the {place}.",
        ),
        PNEUMOTHORAX: (
            "There is a {size} {side} pneumothorax.",
            "{Size} {side} apical pneumothorax is present.",
            "{Size} pneumothorax on the {side} with a visible pleural line.",
            "A {size} {side}-sided pneumothorax is seen.",
            "{Size} {side} pneumothorax.",
            "A pleural line is visible at the {side} apex, with a {size} pneumothorax.",
        ),
        CARDIOMEGALY: (
            "The heart is {size} enlarged.",
            "There is {grade} cardiomegaly.",
            "The cardiac silhouette is {size} enlarged.",
            "{Grade} cardiomegaly is present.",
            "Heart size is {size} enlarged.",
            "{Grade} enlargement of the cardiac silhouette.",
        ),
    }
)

_DOUBTED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        EFFUSION: (
            "Possible {size} {side} pleural effusion.",
            "A {size} {side} pleural effusion cannot be excluded.",
            "Cannot exclude a {size} {side} pleural effusion.",
            "There may be a {size} {side} pleural effusion.",
            "Questionable {size} {side} pleural effusion.",
        ),
        CONSOLIDATION: (
            "Possible {size} consolidation in the {place}.",
            "{Size} consolidation in the {place} cannot be excluded.",
            "Cannot exclude {size} consolidation in the {place}.",
            "There may be {size} consolidation in the {place}.",
            "Questionable {size} consolidation in the {place}.",
        ),
        NODULE: (
            "Possible {size} nodule in the {place}.",
            "A {size} nodule in the {place} cannot be excluded.",
            "Cannot exclude a {size} nodule in the {place}.",
            "There may be a {size} nodule in the {place}.",
            "Questionable {size} nodule in the {place}.",
        ),
        PNEUMOTHORAX: (
            "Possible {size} {side} apical pneumothorax.",
            "A {size} {side} pneumothorax cannot be excluded.",
            "Cannot exclude a {size} {side} apical pneumothorax.",
            "There may be a {size} {side} pneumothorax.",
            "Questionable {size} {side} apical pneumothorax.",
        ),
        CARDIOMEGALY: (
            "Possible {grade} cardiomegaly.",
            "{Grade} cardiomegaly cannot be excluded.",
            "Cannot exclude {grade} cardiomegaly.",
            "There may be {grade} cardiomegaly.",
            "Questionable {grade} cardiomegaly.",
        ),
    }
)

_DENIED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        EFFUSION: (
            "No pleural effusion.",
            "There is no pleural effusion.",
            "No pleural effusion is seen.",
            "No evidence of pleural effusion.",
            "Negative for pleural effusion.",
        ),
        CONSOLIDATION: (
            "No focal consolidation.",
            "There is no focal consolidation.",
            "No consolidation is seen.",
            "No evidence of consolidation.",
            "The lungs are without focal consolidation.",
        ),
        NODULE: (
            "No pulmonary nodule.",
            "No suspicious pulmonary nodule is seen.",
            "There is no nodule.",
            "No lung nodules are identified.",
            "No evidence of pulmonary nodule.",
        ),
        PNEUMOTHORAX: (
            "No pneumothorax.",
            "There is no pneumothorax.",
            "No pneumothorax is seen.",
            "No evidence of pneumothorax.",
            "Negative for pneumothorax.",
        ),
        CARDIOMEGALY: (
            "Heart size is normal.",
            "The heart is normal in size.",
            "The cardiac silhouette is normal in size.",
            "Heart size is within normal limits.",
            "No cardiomegaly.",
        ),
        CLEAR_LUNGS: (
            "The lungs are clear.",
            "Lungs are clear bilaterally.",
            "Both lungs are clear.",
            "The lungs are clear and well expanded.",
        ),
    }
)

_NOUNS: Mapping[str, str] = MappingProxyType(
    {
        EFFUSION: "pleural effusion",
        CONSOLIDATION: "focal consolidation",
        NODULE: "pulmonary nodule",
        PNEUMOTHORAX: "pneumothorax",
    }
)
_JOINED_DENIALS = (
    "No {list}.",
    "There is no {list}.",
    "No evidence of {list}.",
    "No {list} is seen.",
    "No {list} is identified.",
)

_NORMAL_IMPRESSIONS = (
    "No acute cardiopulmonary abnormality.",
    "No acute cardiopulmonary process.",
    "Normal chest radiograph.",
    "No acute findings.",
    "No acute cardiopulmonary disease.",
    "Normal chest.",
)

_SHORT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        EFFUSION: ("{Size} {side} pleural effusion.", "{Side} pleural effusion, {size}."),
        CONSOLIDATION: ("{Place} consolidation.", "Consolidation in the {place}."),
        NODULE: ("{Place} nodule, {size}.", "Nodule in the {place}."),
        PNEUMOTHORAX: ("{Size} {side} pneumothorax.", "{Side} pneumothorax, {size}."),
        CARDIOMEGALY: ("{Grade} cardiomegaly.", "Cardiomegaly."),
    }
)

_LOCATIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "upper": ("{side} upper zone", "{side} upper lung", "{side} upper lung zone"),
        "mid": ("{side} mid zone", "{side} mid lung", "{side} middle lung zone"),
        "lower": ("{side} lower zone", "{side} lower lung", "{side} lung base"),
    }
)


def describe(scene: Scene) -> Report:
    """Write the report of a scene: indication, comparison (on a second image), findings, impression."""
    random = np.random.Generator(np.random.PCG64(scene.words_seed))
    sections = [Section("indication", _pick(random, _INDICATIONS))]
    if scene.previous_date is not None:
        sections.append(Section("comparison", f"{scene.previous_date}."))
    statements = _statements(scene)
    affirmed = [_tell(random, group, _DOUBTED if group[0].faint else _AFFIRMED) for group in statements]
    denials = _deny(random, scene.negated)
    random.shuffle(denials)
    # Some reports begin with the positive findings, some with the negative ones.
    findings = affirmed + denials if random.random() < 0.65 else denials + affirmed
    sections.append(Section("findings", " ".join(findings)))
    sections.append(Section("impression", _conclude(random, statements)))
    return Report(ItemId.report(scene.study_id).text, tuple(sections))


def _statements(scene: Scene) -> list[tuple[Lesion, ...]]:
    """The lesions, those of one finding together."""
    groups: dict[str, list[Lesion]] = {}
    for lesion in scene.lesions:
        groups.setdefault(lesion.finding, []).append(lesion)
    return [tuple(group) for group in groups.values()]


def _pick(random: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(random.integers(len(choices)))]


def _tell(
    random: np.random.Generator, group: tuple[Lesion, ...], wordings: Mapping[str, tuple[str, ...]]
) -> str:
    lesion = max(group, key=lambda one: one.size)
    if len(group) > 1:
        size = size_word(lesion)
        choices = ("{size} bilateral pleural effusions", "bilateral pleural effusions, {size}")
        phrase = _pick(random, choices).format(size=size)
        if lesion.faint:
            return _pick(random, ("Possible {}.", "Questionable {}.", "There may be {}.")).format(phrase)
        return _pick(random, ("There are {}.", "{}.", "{} are present.")).format(phrase).capitalize()
    side = lesion.side or ""
    location = _pick(random, _LOCATIONS[lesion.zone]).format(side=side) if lesion.zone else ""
    size = size_word(lesion)
    grade = {"mildly": "mild", "moderately": "moderate", "markedly": "marked"}.get(size, size)
    sentence = _pick(random, wordings[lesion.finding]).format(
        size=size, Size=size.capitalize(), side=side, Side=side.capitalize(), place=location,
        Place=location.capitalize(), grade=grade, Grade=grade.capitalize(),
    )  # fmt: skip
    return sentence[0].upper() + sentence[1:]


def size_word(lesion: Lesion) -> str:
    """The word for a lesion's size.

    Effusion: small below 50 mm of fluid, large from 95 mm. Pneumothorax: small below 20 mm of air over the
    lung's tip, large from 38 mm. Nodule: its diameter in mm. Heart: mildly below a ratio of 0.55, markedly
    from 0.60. Consolidation: faint, patchy (attenuation below 0.8), or dense.
    """
    if lesion.finding == EFFUSION:
        return _grade(lesion.size, 50.0, 95.0, ("small", "moderate", "large"))
    if lesion.finding == PNEUMOTHORAX:
        return _grade(lesion.size, 20.0, 38.0, ("small", "moderate", "large"))
    if lesion.finding == NODULE:
        return f"{round(2 * lesion.size)} mm"
    if lesion.finding == CARDIOMEGALY:
        return _grade(lesion.size, 0.55, 0.60, ("mildly", "moderately", "markedly"))
    return _grade(lesion.contrast, 0.40, 0.80, ("faint", "patchy", "dense"))


def _grade(value: float, medium: float, high: float, words: tuple[str, str, str]) -> str:
    return words[0] if value < medium else words[1] if value < high else words[2]


def _deny(random: np.random.Generator, negated: Sequence[str]) -> list[str]:
    """Sentences that deny the findings, sometimes two or three in one sentence."""
    joinable = [name for name in negated if name in _NOUNS]
    random.shuffle(joinable)
    joined = joinable[: int(random.integers(2, 4))] if len(joinable) > 1 and random.random() < 0.55 else []
    sentences = [_pick(random, _DENIED[name]) for name in negated if name not in joined]
    if joined:
        nouns = [_NOUNS[name] for name in joined]
        listed = f"{', '.join(nouns[:-1])} or {nouns[-1]}"
        sentences.append(_pick(random, _JOINED_DENIALS).format(list=listed))
    return sentences


def _conclude(random: np.random.Generator, statements: list[tuple[Lesion, ...]]) -> str:
    if not statements:
        return _pick(random, _NORMAL_IMPRESSIONS)
    lines = [_tell(random, group, _DOUBTED if group[0].faint else _SHORT) for group in statements]
    if len(lines) > 1 and random.random() < 0.5:
        return " ".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
    return " ".join(lines)
