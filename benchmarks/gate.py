"""Whether what is no image of the index's kind is refused, and what is, is not.

    python -m benchmarks.gate --data ../shared/data --encoder runs/real

The gate learns from radiographs (ChestX-ray14 and covid-chestxray) of subjects who are not left out, and is
asked about the radiographs of held-out subjects by view, each also inverted; about breast ultrasound (BUSI),
brain MRI and photographs. Then it learns from half of the ultrasound and is asked about the rest.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from corpus.images.reader import read_image
from corpus.sources import open_source
from corpus.splits import split_of
from retrieval.reliability.ood import (
    MOST_IMAGES,
    Numbers,
    OutOfDistributionDetector,
    backbone_features,
    fit_detector,
)
from trainer.runtime.encoder import Encoder

_TOGETHER = 32


@dataclass(frozen=True)
class ListedImage:
    """An image, its subject, and the row it is listed in."""

    location: str
    subject: str
    kind: str
    left_out: bool


def radiographs(data: Path) -> list[ListedImage]:
    """Every radiograph of both sets, in an order without meaning."""
    listed_images = []
    for source in ("nih-chestxray14", "covid-chestxray"):
        for study in open_source(f"{source}:{data / source}").studies(lambda _: None):
            left_out = split_of(study.subject_id) == "test"
            for image in study.images:
                kind = {"lateral": "lateral", "ap_supine": "supine"}.get(str(image.view), "frontal")
                listed_images.append(
                    ListedImage(image.location, study.subject_id, f"{kind}, {source}", left_out)
                )
    order = np.random.default_rng(0).permutation(len(listed_images))
    return [listed_images[position] for position in order]


def others(folder: Path, kind: str) -> list[ListedImage]:
    """Every image of a folder, each of another subject; half of them held out."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    return [
        ListedImage(str(path), path.name, kind.format(path.name.partition("_")[0]), n % 2 == 0)
        for n, path in enumerate(paths)
    ]


def see(encoder: Encoder, listed_images: Sequence[ListedImage]) -> tuple[Numbers, Numbers]:
    """Their points, and inverted."""
    sides: list[tuple[Numbers, Numbers]] = []
    for start in range(0, len(listed_images), _TOGETHER):
        sides.append(
            backbone_features(
                encoder, [read_image(entry.location) for entry in listed_images[start : start + _TOGETHER]]
            )
        )
    entry, inverted = (np.concatenate(side) for side in zip(*sides, strict=True))
    return entry, inverted


def report(
    detector: OutOfDistributionDetector, title: str, groups: Mapping[str, tuple[Numbers, Numbers]]
) -> None:
    """Print the share of each group that is refused, and 2nd, 50th, 98th percentile of its distances.

    An image and its inverse have one distance, so the held-out images count for their inverses, too.
    """
    print(f"{title}; limit {detector.limit:.2f}")
    for name, (entry, inverted) in groups.items():
        distances = np.minimum(detector.distance(entry), detector.distance(inverted))
        refused = (distances > detector.limit).sum()
        low, middle, high = np.quantile(distances / detector.limit, (0.02, 0.5, 0.98))
        print(f"  {name:28} {refused:4d} of {len(entry):4d} refused ({refused / len(entry):.3f})", end="")
        print(f"   distance/limit {low:.2f} {middle:.2f} {high:.2f}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--encoder", default="runs/real")
    options = parser.parse_args()
    encoder = Encoder.load(options.encoder)
    listed_images = radiographs(options.data)
    teaching = [entry for entry in listed_images if not entry.left_out][:MOST_IMAGES]
    requested = [entry for entry in listed_images if entry.left_out]
    busi = others(options.data / "busi" / "images", "ultrasound")
    foreign = others(options.data / "not-radiographs", "{}")
    taught = see(encoder, teaching)
    seen = {
        kind: see(encoder, [entry for entry in requested if entry.kind == kind])
        for kind in sorted({entry.kind for entry in requested})
    }
    ultrasound, odd = see(encoder, busi), see(encoder, foreign)
    detector = fit_detector(*taught, [entry.subject for entry in teaching])
    if detector is None:
        raise SystemExit("too few subjects")
    whole = tuple(np.concatenate([side[n] for side in seen.values()]) for n in (0, 1))
    groups = {
        **seen,
        "all left-out radiographs": (whole[0], whole[1]),
        "ultrasound": ultrasound,
        "MRI and photographs": odd,
    }
    report(detector, f"an index of {len(teaching)} radiographs of {detector.subjects} subjects", groups)
    left_out = np.array([entry.left_out for entry in busi])
    chosen = [entry.subject for entry in busi if not entry.left_out]
    second = fit_detector(ultrasound[0][~left_out], ultrasound[1][~left_out], chosen)
    if second is not None:
        shown = {
            "ultrasound left out": (ultrasound[0][left_out], ultrasound[1][left_out]),
            "radiographs": (whole[0], whole[1]),
            "MRI and photographs": odd,
        }
        report(second, f"an index of {second.subjects} ultrasound images", shown)
    print(f"machine: {describe_machine()}")


if __name__ == "__main__":
    main()
