"""A scene: one examination of one phantom subject, the source of its image and its report.

Prevalences: one image in three is normal. The others have one, two or three findings (60, 30, 10 %), each of
the five equally often, so that each is on 20 % of images. One effusion in six is bilateral (where no
pneumothorax is). A finding is faint, and the report unsure of it, in 15 % of the cases. Right and left are
equally frequent. An absent finding is negated in the report with probability 0.75, else unmentioned.

Subjects: of every seven studies the last is a second image of one of the six subjects before it. Anatomy
stays; in half of these the lesions are the earlier ones grown or shrunk, in the other half new ones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Literal, get_args

import numpy as np

from corpus.errors import UsageError
from corpus.findings import NO_FINDING, VOCABULARY, Status, Statuses, make_statuses
from corpus.phantom.anatomy import Anatomy, draw_anatomy
from corpus.phantom.frame import Positioning
from corpus.phantom.lesions import (
    CARDIOMEGALY,
    CONSOLIDATION,
    CONTRASTS,
    EFFUSION,
    FAINT_CONTRASTS,
    FAINT_SIZES,
    FINDINGS,
    NODULE,
    PNEUMOTHORAX,
    SIZES,
    ZONES,
    Hemithorax,
    Lesion,
    LungZone,
)

NORMAL_SHARE = 1 / 3
"""Share of images without any finding."""
COUNT_SHARES: Mapping[int, float] = {1: 0.6, 2: 0.3, 3: 0.1}
"""How many different findings an abnormal image has."""
PREVALENCE = (1 - NORMAL_SHARE) * sum(n * share for n, share in COUNT_SHARES.items()) / len(FINDINGS)
"""Share of images that have a given finding, faint or not: 0.2 for each."""
FAINT_SHARE = 0.15
"""Share of findings that are faint: the report calls them uncertain."""
BILATERAL_SHARE = 1 / 6
"""Share of effusions that are bilateral, among images without pneumothorax."""
NEGATED_SHARE = 0.75
"""Share of absent findings that the report denies; the others are unmentioned."""
CLEAR_SHARE = 0.45
"""Share of reports that call the lungs clear, among images with neither consolidation nor nodule."""
STUDIES_PER_BLOCK = 7
"""Length of a block of studies; its last study is a follow-up of one of the others."""

CLEAR_LUNGS = "lung_opacity"
"""What "the lungs are clear" denies: every opacity."""

_SIDES: tuple[Hemithorax, ...] = get_args(Hemithorax)
_ZONES: tuple[LungZone, ...] = get_args(LungZone)
_FIRST_DAY = date(2015, 1, 1)
_DAYS = 9 * 365
_LARGE_EFFUSION = 85.0  # mm; a larger one also fills the mid zone


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How one image was acquired.

    `positioning`: of the body.
    `photons`: per pixel in the open beam, 3,000–12,000.
    `window_low`, `window_width`: the window in units of attenuation, 0.75–1.05 and 3.0–3.7.
    `gamma`: applied last, 0.8–1.15.
    `noise_seed`: seed of the quantum noise.
    """

    positioning: Positioning
    photons: float
    window_low: float
    window_width: float
    gamma: float
    noise_seed: int


@dataclass(frozen=True, slots=True)
class Scene:
    """One examination of one phantom subject.

    `seed`, `number`: the cohort and the study's number in it.
    `subject`: the number of the subject's first study.
    `age`: whole years.
    `date`, `previous_date`: ISO 8601; the latter None in a first study.
    `anatomy`, `acquisition`: of the subject and of this image.
    `lesions`: all, doubtful ones too.
    `negated`: the absent findings that the report denies (`CLEAR_LUNGS` among them where it calls the lungs
    clear).
    `words_seed`: chooses the wording.
    """

    seed: int
    number: int
    subject: int
    age: int
    sex: Literal["F", "M"]
    view: Literal["pa", "ap"]
    date: str
    previous_date: str | None
    anatomy: Anatomy
    acquisition: Acquisition
    lesions: tuple[Lesion, ...]
    negated: tuple[str, ...]
    words_seed: int

    @property
    def study_id(self) -> str:
        """`phantom:<seed>-<number>`."""
        return f"phantom:{self.seed}-{self.number}"

    @property
    def subject_id(self) -> str:
        """`phantom:<seed>-p<number of the subject's first study>`."""
        return f"phantom:{self.seed}-p{self.subject}"

    @property
    def ctr(self) -> float:
        """Heart width over inner thoracic width on this image."""
        return next((les.size for les in self.lesions if les.finding == CARDIOMEGALY), self.anatomy.ctr)

    @property
    def statuses(self) -> Statuses:
        """The findings as the report states them, spread along the vocabulary's tree.

        A bilateral finding counts once. A normal image has `no_finding` present.
        """
        present = {les.finding for les in self.lesions if not les.faint}
        uncertain = {les.finding for les in self.lesions if les.faint} - present
        if not self.lesions:
            present.add(NO_FINDING)
        statuses = make_statuses(present=present, absent=self.negated, uncertain=uncertain)
        return VOCABULARY.spread({n: s for n, s in statuses.items() if s is not Status.UNMENTIONED})


def scene(seed: int, number: int) -> Scene:
    """Return study `number` of the cohort `seed`: the same in every run, however large the cohort.

    Raises:
        UsageError: `seed` or `number` is negative.
    """
    if seed < 0 or number < 0:
        raise UsageError(f"phantom seed and number are 0 or more, not {seed} and {number}")
    subject_random, lesion_random, image_random = (
        np.random.Generator(np.random.PCG64(stream))
        for stream in np.random.SeedSequence([seed, number]).spawn(3)
    )
    block, index = divmod(number, STUDIES_PER_BLOCK)
    if index == STUDIES_PER_BLOCK - 1:
        chosen = int(subject_random.integers(STUDIES_PER_BLOCK - 1))
        return _follow_up(
            scene(seed, block * STUDIES_PER_BLOCK + chosen), number, lesion_random, image_random
        )
    sex: Literal["F", "M"] = "F" if subject_random.random() < 0.5 else "M"
    age = round(subject_random.triangular(18, 62, 94))
    anatomy = draw_anatomy(subject_random, sex, age)
    taken = _FIRST_DAY + timedelta(days=int(subject_random.integers(_DAYS)))
    return _examine(
        Scene(
            seed, number, number, age, sex, "pa", taken.isoformat(), None, anatomy,
            _draw_acquisition(image_random, "pa"), (), (), 0,
        ),
        _draw_lesions(lesion_random),
        lesion_random,
        image_random,
    )  # fmt: skip


def _follow_up(
    first: Scene, number: int, lesion_random: np.random.Generator, image_random: np.random.Generator
) -> Scene:
    """Another image of the same subject, days to a year later."""
    later = date.fromisoformat(first.date) + timedelta(days=int(lesion_random.integers(2, 365)))
    years = first.age + (
        1 if later.timetuple().tm_yday < date.fromisoformat(first.date).timetuple().tm_yday else 0
    )
    if lesion_random.random() < 0.5:
        lesions = tuple(_evolve(lesion_random, lesion) for lesion in first.lesions)
    else:
        lesions = _draw_lesions(lesion_random)
    again = replace(first, number=number, age=years, date=later.isoformat(), previous_date=first.date)
    return _examine(again, lesions, lesion_random, image_random)


def _examine(
    blank: Scene,
    lesions: tuple[Lesion, ...],
    lesion_random: np.random.Generator,
    image_random: np.random.Generator,
) -> Scene:
    view: Literal["pa", "ap"] = "pa" if image_random.random() < 0.7 else "ap"
    return replace(
        blank,
        view=view,
        acquisition=_draw_acquisition(image_random, view),
        lesions=lesions,
        negated=_draw_negated(lesion_random, lesions),
        words_seed=int(image_random.integers(2**32)),
    )


def _draw_acquisition(random: np.random.Generator, view: Literal["pa", "ap"]) -> Acquisition:
    # A patient in bed is rarely straight.
    crooked = 1.0 if view == "ap" else 0.6
    return Acquisition(
        positioning=Positioning(
            tilt=crooked * random.uniform(-0.05, 0.05),
            shift_across=crooked * random.uniform(-10, 10),
            shift_down=random.uniform(-6, 8),
            turn=crooked * random.uniform(-5, 5),
        ),
        photons=random.uniform(3_000, 12_000) * (0.6 if view == "ap" else 1.0),
        window_low=random.uniform(0.75, 1.05),
        window_width=random.uniform(3.0, 3.7),
        gamma=random.uniform(0.8, 1.15),
        noise_seed=int(random.integers(2**32)),
    )


def _draw_lesions(random: np.random.Generator) -> tuple[Lesion, ...]:
    if random.random() < NORMAL_SHARE:
        return ()
    count = int(random.choice(list(COUNT_SHARES), p=list(COUNT_SHARES.values())))
    chosen = set(random.choice(FINDINGS, size=count, replace=False).tolist())
    free = {(side, zone) for side in _SIDES for zone in _ZONES}
    lesions: list[Lesion] = []
    for finding in FINDINGS:  # in this order: what needs most room comes first
        if finding not in chosen:
            continue
        faint = random.random() < FAINT_SHARE
        positions: list[tuple[Hemithorax | None, LungZone | None]] = [(None, None)]
        if finding in (PNEUMOTHORAX, EFFUSION):
            # A lung with air around it holds nothing else here.
            sides = [s for s in _SIDES if (s, "upper") in free]
            both = finding == EFFUSION and len(sides) == 2 and random.random() < BILATERAL_SHARE
            positions = [(s, None) for s in (sides if both else [sides[int(random.integers(len(sides)))]])]
        elif finding in (CONSOLIDATION, NODULE):
            positions = [_draw_position(random, free, [les.side for les in lesions if les.side])]
        for side, zone in positions:
            lesion = draw_lesion(random, finding, side, zone, faint)
            lesions.append(lesion)
            free -= _occupied(lesion)
    return tuple(lesions)


def _draw_position(
    random: np.random.Generator, free: set[tuple[Hemithorax, LungZone]], busy: Iterable[Hemithorax]
) -> tuple[Hemithorax, LungZone]:
    """Return a free third of a lung, if possible of a lung without any lesion yet."""
    busy = set(busy)
    cells = sorted(free)
    quiet = [cell for cell in cells if cell[0] not in busy] or cells
    return quiet[int(random.integers(len(quiet)))]


def _occupied(lesion: Lesion) -> set[tuple[Hemithorax, LungZone]]:
    """Return the thirds of a lung in which no other lesion would be visible."""
    if lesion.side is None:
        return set()
    zones: tuple[LungZone, ...] = _ZONES
    if lesion.finding == EFFUSION:
        zones = ("mid", "lower") if lesion.size > _LARGE_EFFUSION else ("lower",)
    elif lesion.zone is not None:
        zones = (lesion.zone,)
    return {(lesion.side, zone) for zone in zones}


def draw_lesion(
    random: np.random.Generator, finding: str, side: Hemithorax | None, zone: LungZone | None, faint: bool
) -> Lesion:
    """Draw one lesion of a finding: its size, contrast and position within the ranges of `lesions`.

    Args:
        random: source of the draws.
        finding: one of `FINDINGS`.
        side: the patient's, None for the heart.
        zone: the third of the lung, None where the finding determines its own position.
        faint: whether it is too weak for a reader to be sure.
    """
    smallest, largest = FAINT_SIZES[finding] if faint else _sure_sizes(finding)
    # Small lesions are more frequent than large ones.
    size = smallest + (largest - smallest) * random.beta(1.1, 1.7)
    down = random.uniform(*ZONES[zone]) if zone else 0.0
    return Lesion(
        finding=finding,
        side=side,
        zone=zone,
        size=float(size),
        contrast=random.uniform(*(FAINT_CONTRASTS if faint else CONTRASTS)[finding]),
        faint=faint,
        across=random.uniform(0.30, 0.72),
        down=down,
        seed=int(random.integers(2**32)),
    )


def _sure_sizes(finding: str) -> tuple[float, float]:
    """Return the sizes of certain lesions; only a heart's enlargement is doubtful by its size alone."""
    smallest, largest = SIZES[finding]
    return (FAINT_SIZES[finding][1] + 0.01 if finding == CARDIOMEGALY else smallest), largest


def _evolve(random: np.random.Generator, lesion: Lesion) -> Lesion:
    """Return the same lesion later: larger or smaller, as certain or doubtful as it was."""
    smallest, largest = FAINT_SIZES[lesion.finding] if lesion.faint else _sure_sizes(lesion.finding)
    share = 0.3 * (largest - smallest) * random.uniform(-1, 1)
    return replace(lesion, size=float(np.clip(lesion.size + share, smallest, largest)))


def _draw_negated(random: np.random.Generator, lesions: tuple[Lesion, ...]) -> tuple[str, ...]:
    shown = {lesion.finding for lesion in lesions}
    negated = [name for name in FINDINGS if random.random() < NEGATED_SHARE and name not in shown]
    if not shown & {CONSOLIDATION, NODULE} and random.random() < CLEAR_SHARE:
        negated.append(CLEAR_LUNGS)
    if not shown and not negated:
        negated.append(PNEUMOTHORAX)  # a normal report has at least one statement
    return tuple(negated)
