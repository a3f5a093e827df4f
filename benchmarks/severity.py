"""Severity by zone: the map of a finding against a radiologist's score of each lung zone (Brixia).

    python -m benchmarks.severity --data ../shared/data --encoder runs/real --finding consolidation

A senior and a junior radiologist scored six zones of 116 radiographs of covid-chestxray from 0 to 3 (Brixia
score, Borghesi and Maroldi 2020). The scores are ground truth: nothing here trains on them. Of every image
and phrase the map's mean over each zone is compared with the senior's score by Spearman's rank correlation:
over all zones of all images, over the zones of one image (the mean of images with unequal scores), and over
the images' totals. Beside it stand the junior's scores and two baselines: the mean score of the zone on other
patients' radiographs, which ignores the image, and the zone's mean grey value. Intervals are 95 %, by a
bootstrap over patients.

Three quantities are read from a map: `raw`, in the method's own units; `map`, scaled to [0, 1] in each image;
`map x specificity`, that times how much more the map answers to its phrase than to others.

Patients of the encoder's training are excluded; `--allow-seen` includes them.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from benchmarks.machine import describe_machine
from corpus.counterfactual.lungs import find_lungs
from corpus.geometry import Box
from corpus.images.reader import read_image
from corpus.redaction import redacted
from corpus.sources import open_source
from corpus.statistics import BOOTSTRAP_DRAWS, draw_subjects, interval95
from retrieval.localize.evaluation.box_measures import box_around
from retrieval.localize.evaluation.intervals import mean_over
from retrieval.localize.localizer import method_names
from retrieval.localize.saliency.maps import scaled
from retrieval.localize.specificity.calibration import UNTRAINED, find_calibration
from retrieval.localize.specificity.map_statistics import STATISTICS, Contrasts, measure
from trainer.models.resolve import open_encoder
from trainer.runtime.encoder import Encoder
from trainer.runtime.training_overlap import was_trained_on

Floats = NDArray[np.float64]

ZONES = "ABCDEF"
"""Upper, middle and lower zone of the patient's right lung, then of the left."""
USUAL_LUNGS = ((0.08, 0.81, 0.08, 0.46), (0.09, 0.86, 0.55, 0.92))
"""Top, bottom, left and right of the right and the left lung as shares of the image's sides, where no lungs
are found: medians of the 68 lung masks of covid-chestxray's frontal radiographs without Brixia scores. Half
of those with scores (50 of 116) have no lungs that are dark enough to be found."""
QUANTITIES = ("raw", "map", "map x specificity")


@redacted
@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One scored radiograph.

    `subject`: the patient.
    `location`: of the image file.
    `senior`, `junior`: (6,) scores from 0 to 3, in the order of `ZONES`.
    """

    subject: str
    location: str
    senior: Floats
    junior: Floats


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--encoder", default="runs/real", help="encoder folder or name")
    parser.add_argument(
        "--finding", action="append", help="phrase (repeatable; default: consolidation, ground glass)"
    )
    parser.add_argument("--method", action="append", help=f"repeatable; default: {UNTRAINED}")
    parser.add_argument("--lungs", choices=["found", "usual"], default="found", help="zones of an image")
    parser.add_argument("--allow-seen", action="store_true", help="also patients of the encoder's training")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    console = Console(width=150, highlight=False)
    encoder = open_encoder(options.encoder, device=options.device)
    every = read_scored(options.data)
    used = [one for one in every if options.allow_seen or not was_trained_on(encoder.record, one.subject)]
    if not used:
        raise SystemExit("the encoder has learned from every patient with scores: --allow-seen includes them")
    phrases = options.finding or ["consolidation", "ground glass"]
    methods = method_names(options.method or [UNTRAINED])
    severity, found = map_severity(encoder, used, phrases, methods, options.lungs == "found")
    console.print(_table(used, severity))
    subjects = len({one.subject for one in used})
    console.print(
        f"{len(used)} radiographs of {subjects} patients, {len(every) - len(used)} excluded as of the "
        f"encoder's training; lungs found in {found}, the usual fields in {len(used) - found}; "
        f"{BOOTSTRAP_DRAWS} draws"
    )
    console.print(describe_machine())


def read_scored(data: Path) -> list[Scored]:
    """Return the radiographs of covid-chestxray that have scores, in the order of that set."""
    with (data / "brixia-truth" / "brixia_scores.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["filename"]: row for row in csv.DictReader(file)}
    scored = []
    for study in open_source(f"covid-chestxray:{data / 'covid-chestxray'}").studies(lambda problem: None):
        for image in study.images:
            row = rows.get(Path(image.location).name)
            if row is not None:
                senior, junior = (np.array([float(row[f"{r}-{zone}"]) for zone in ZONES]) for r in "SJ")
                scored.append(Scored(study.subject_id, image.location, senior, junior))
    return scored


def map_severity(
    encoder: Encoder, scored: Sequence[Scored], phrases: Sequence[str], methods: Sequence[str], search: bool
) -> tuple[dict[str, Floats], int]:
    """Read every quantity of every map in every zone.

    Args:
        encoder: makes the maps.
        scored: n radiographs.
        phrases: what the maps are of; of several, their mean is a row, too.
        methods: of `retrieval.localize.saliency.maps.METHODS`.
        search: find each image's lungs; else the usual ones stand for all.

    Returns:
        Row name → (n, 6) mean of a quantity over each zone, that of the grey values last; and in how many
        images lungs were found.
    """
    texts, contrasts = encoder.encode_texts(list(phrases)), Contrasts(encoder)
    calibrations = {method: find_calibration(encoder.fingerprint, method) for method in methods}
    shape = (len(scored), len(ZONES))
    rows = {
        (method, phrase, name): np.zeros(shape)
        for method in methods
        for phrase in phrases
        for name in QUANTITIES
    }
    grey = np.zeros(shape)
    found = 0
    for number, one in enumerate(scored):
        image = read_image(one.location)
        zones = zones_of(image) if search else None
        found += zones is not None
        zones = zones or usual_zones(image.shape)
        grey[number] = zone_means(image, zones)
        for method in methods:
            calibration = calibrations[method]
            references = None if calibration is None else calibration.references
            maps, statistics = measure(encoder, image, texts, method, contrasts, references)
            specificity = (
                statistics[:, STATISTICS.index("contrast")]
                if calibration is None
                else calibration.specificity(statistics)
            )
            for text, phrase in enumerate(phrases):
                raw = maps.over(text)
                heat = scaled(raw)
                for name, values in zip(QUANTITIES, (raw, heat, heat * specificity[text]), strict=True):
                    rows[method, phrase, name][number] = zone_means(values, zones)
    severity = {f"{method}, {phrase}: {name}": rows[method, phrase, name] for method, phrase, name in rows}
    if len(phrases) > 1:
        for method in methods:
            for name in QUANTITIES:
                mean = np.mean([rows[method, phrase, name] for phrase in phrases], axis=0)
                severity[f"{method}, mean of phrases: {name}"] = mean
    severity["mean grey value"] = grey
    return severity, found


def zones_of(image: NDArray[np.float32]) -> list[Box] | None:
    """The six zones of an image with lungs that are found: thirds of the box around each lung.

    The box and not the lung itself: consolidated parts are not dark, and are missing in what is found.
    """
    lungs = find_lungs(image)
    return None if lungs is None else [*_thirds(box_around(lungs.right)), *_thirds(box_around(lungs.left))]


def usual_zones(shape: Sequence[int]) -> list[Box]:
    """The six zones where no lungs are found: thirds of `USUAL_LUNGS`."""
    height, width = shape
    return [
        zone
        for top, bottom, left, right in USUAL_LUNGS
        for zone in _thirds(
            Box(round(left * width), round(top * height), round(right * width), round(bottom * height))
        )
    ]


def _thirds(box: Box) -> list[Box]:
    rows = [box.top + round((box.bottom - box.top) * part / 3) for part in range(4)]
    return [Box(box.left, rows[part], box.right, rows[part + 1]) for part in range(3)]


def zone_means(values: NDArray[np.float32], zones: Sequence[Box]) -> Floats:
    """(6,) the mean of a map over each zone."""
    return np.array([float(values[zone.top : zone.bottom, zone.left : zone.right].mean()) for zone in zones])


def other_patients_mean(scores: Floats, subjects: Sequence[str]) -> Floats:
    """(n, 6) the mean score of each zone over the radiographs of all other patients."""
    patients = np.array(subjects)
    return np.stack([scores[patients != patient].mean(axis=0) for patient in subjects])


def spearman(one: Floats, other: Floats) -> float:
    """Spearman's rank correlation of two arrays of one size; NaN where one is level.

    Equal values share their mean rank.
    """
    first, second = (ranks - ranks.mean() for ranks in (rankdata(one), rankdata(other)))
    length = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / length if length > 0 else float("nan")


def correlations(
    severity: Floats, scores: Floats, subjects: Sequence[str], seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> Mapping[str, tuple[float, list[float] | None]]:
    """Correlate severities with scores, each with a 95 % interval by a bootstrap over patients.

    Args:
        severity, scores: (n, 6) of the zones of n images.
        subjects: (n,) the patient of each image.
        seed, draws: of the bootstrap.

    Returns:
        `zones`: over all zones of all images; `within`: the mean over images with unequal scores of the
        correlation of their six zones; `totals`: over the images' sums. A value of NaN is of a level array.
    """
    patients, number = np.unique(np.array(subjects), return_inverse=True)
    images_of = [np.flatnonzero(number == patient) for patient in range(len(patients))]
    drawn: dict[str, list[float]] = {"zones": [], "totals": []}
    for times in draw_subjects(patients, draws, seed).astype(int):
        chosen = np.concatenate([np.tile(images_of[p], times[p]) for p in np.flatnonzero(times)])
        drawn["zones"].append(spearman(severity[chosen].ravel(), scores[chosen].ravel()))
        drawn["totals"].append(spearman(severity[chosen].sum(axis=1), scores[chosen].sum(axis=1)))
    pairs = zip(severity, scores, strict=True)
    within = [None if np.ptp(own) == 0 or np.ptp(one) == 0 else spearman(one, own) for one, own in pairs]
    mean = mean_over(within, subjects, seed=seed, draws=draws)
    bounds = None if mean.low is None or mean.high is None else [mean.low, mean.high]
    return {
        "zones": (spearman(severity.ravel(), scores.ravel()), interval95(np.array(drawn["zones"]))),
        "within": (float("nan") if mean.value is None else mean.value, bounds),
        "totals": (
            spearman(severity.sum(axis=1), scores.sum(axis=1)),
            interval95(np.array(drawn["totals"])),
        ),
    }


def _table(scored: Sequence[Scored], severity: Mapping[str, Floats]) -> Table:
    subjects = [one.subject for one in scored]
    senior, junior = (np.stack([getattr(one, reader) for one in scored]) for reader in ("senior", "junior"))
    columns = ("all zones", "zones of one image", "image totals")
    title = "Spearman correlation with the senior's score (95 % CI over patients)"
    table = Table("", *columns, title=title, title_justify="left")
    for name, values in severity.items():
        table.add_row(name, *map(_shown, correlations(values, senior, subjects).values()))
    agreement = correlations(junior, senior, subjects)
    table.add_row("junior radiologist", *map(_shown, agreement.values()), style="dim")
    agnostic = correlations(other_patients_mean(senior, subjects), senior, subjects)
    # Totals of the means over others are a constant less the patient's own share: no prediction of it.
    usual = [_shown(agnostic["zones"]), _shown(agnostic["within"]), "–"]
    table.add_row("mean of other patients", *usual, style="dim")
    return table


def _shown(value: tuple[float, list[float] | None]) -> str:
    mean, bounds = value
    if bounds is None or not np.isfinite(mean):
        return "–"
    return f"{mean:.2f} ({bounds[0]:.2f} … {bounds[1]:.2f})"


if __name__ == "__main__":
    main()
